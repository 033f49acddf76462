import errno
import hashlib
import json
import os

import pytest

from experiment.console.command import run_command
from experiment.disk.files import read_json, sha256_file, sha256_json, write_bytes, write_folder, write_json
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import ReferenceRecord
from projheads.errors import ProjheadsError
from tests.eval.report.factory import trial_record


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"old": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


def test_a_failed_folder_leaves_the_old_folder_and_nothing_else(tmp_path):
    path = tmp_path / "model"
    with write_folder(path) as temporary:
        (temporary / "a").write_text("old")

    def stopped_half_way():
        with write_folder(path) as temporary:
            (temporary / "a").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        stopped_half_way()
    assert (path / "a").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    with write_folder(path) as temporary:
        (temporary / "b").write_text("new")
    assert [entry.name for entry in path.iterdir()] == ["b"]


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_broken_and_newer_files_are_named(tmp_path):
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(ProjheadsError, match=r"half\.json: not a JSON file"):
        read_json(tmp_path / "half.json")
    write_json(tmp_path / "new.json", {"schema_version": 99})
    with pytest.raises(ProjheadsError, match=r"new\.json: schema version 99 is newer"):
        read_json(tmp_path / "new.json")
    with pytest.raises(ProjheadsError, match="no such file"):
        read_json(tmp_path / "gone.json")


def test_hashes(tmp_path):
    assert sha256_json({"a": 1, "b": "ü"}) == sha256_json({"b": "ü", "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
    write_bytes(tmp_path / "x", b"abc")
    assert sha256_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_layout_is_the_one_of_the_design(tmp_path):
    folder = ExperimentFolder(tmp_path)
    trial = folder.trial("ffn-x", 3)
    record = trial_record("ffn", 3, 0, None)
    record.write(trial.trial_json)
    ReferenceRecord(name="bm25", description="BM25", seed=0).write(folder.reference("bm25").reference_json)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    assert files == ["references/bm25/seed-0/reference.json", "trials/ffn-x/seed-3/trial.json"]
    assert trial.eval_run("scifact").relative_to(trial.path).as_posix() == "eval/scifact.run"
    assert [found.path for found in folder.trials()] == [trial.path]
    assert trial.read_trial() == record
    assert folder.trial("ffn-x", 4).read_trial() is None


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / ".model.123.tmp").mkdir()
    (tmp_path / "trials" / ".model.123.tmp" / "weights").write_text("half")
    (tmp_path / ".experiment.yaml.9.tmp").write_text("half")
    (tmp_path / "experiment.yaml").write_text("whole")
    ExperimentFolder(tmp_path).remove_leftovers()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["experiment.yaml", "trials"]


def test_training_leaves_alone_what_evaluations_write_and_they_remove_their_own(tmp_path):
    folder = ExperimentFolder(tmp_path)
    trial = folder.trial("linear", 0)
    others = [folder.report / ".index.html.7.tmp", folder.texts_json("a").with_name(".a.json.7.tmp")]
    own = trial.evaluations / ".a.run.7.tmp"
    for path in (*others, own):
        path.parent.mkdir(parents=True)
        path.write_text("half")
    folder.remove_leftovers()
    assert own.exists()
    trial.remove_leftovers()
    assert sorted(tmp_path.rglob(".*.tmp")) == sorted(others)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ProjheadsError("f.yaml:3: wrong"), 2, "error: f.yaml:3: wrong\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2, "No space left on device"),
        (KeyboardInterrupt(), 130, "goes on from here"),
    ],
)
def test_commands_end_with_one_line(error, code, words, capsys):
    def main(arguments):
        raise error

    assert run_command(main, []) == code
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_a_defect_of_ours_is_not_hidden():
    def main(arguments):
        return json.loads("{")["x"]

    with pytest.raises(json.JSONDecodeError):
        run_command(main, [])
