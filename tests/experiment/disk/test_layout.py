import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiment.console.command import run_command
from experiment.disk.files import (
    read_json,
    sha256_file,
    sha256_json,
    sha256_parts,
    write_bytes,
    write_folder,
    write_json,
    write_parts,
)
from experiment.disk.layout import ExperimentFolder
from experiment.disk.lock import locked
from experiment.disk.records import ReferenceRecord
from projheads.errors import ProjheadsError
from tests.eval.report.factory import trial_record

ROOT = Path(__file__).parents[3]


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


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_file_beyond_the_limit_is_named(tmp_path):
    """The error of writing to an open file does not name it."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from experiment.console.command import run_command; "
        "from experiment.disk.files import write_bytes; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "sys.exit(run_command(lambda arguments: write_bytes(Path(arguments[0]), b'x' * 9000), sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path / 'big'}: File too large; finished work is kept\n")
    assert list(tmp_path.iterdir()) == []


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


KILLED = """
import os, signal, sys
from pathlib import Path
from experiment.disk.files import write_folder, write_parts
def parts():
    yield b"half"
    with write_folder(Path(sys.argv[1], "trials/linear/seed-0/model")) as temporary:
        (temporary / "weights").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
write_parts(Path(sys.argv[1], "trials/linear/seed-0/eval/a.run"), parts())
"""


def kill_a_writer(folder):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == -signal.SIGKILL
    return sorted(path.name for path in folder.rglob(".*.tmp"))


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    foreign = [tmp_path / name for name in (".x.123.tmp", "trials/.x.tmp", "trials/.x.ph-zz.tmp", "trials/x.tmp")]
    (tmp_path / "trials" / ".model.9.tmp").mkdir(parents=True)
    for path in foreign:
        path.write_text("not ours")
    assert len(set(kill_a_writer(tmp_path)) - {path.name for path in foreign}) == 3
    ExperimentFolder(tmp_path).remove_leftovers()
    assert sorted(path for path in tmp_path.rglob("*.tmp")) == sorted([*foreign, tmp_path / "trials" / ".model.9.tmp"])


def test_who_writes_a_file_next_clears_what_was_left_of_it(tmp_path):
    left = set(kill_a_writer(tmp_path))
    assert len(left) == 2
    write_parts(tmp_path / "trials/linear/seed-0/eval/a.run", [b"x"])
    with write_folder(tmp_path / "trials/linear/seed-0/model"):
        pass
    assert not list(tmp_path.rglob(".*.tmp"))


def test_folders_that_are_not_the_experiments_are_left_alone(tmp_path):
    theirs = kill_a_writer(tmp_path / "another-experiment")
    ExperimentFolder(tmp_path).remove_leftovers()
    assert sorted(path.name for path in tmp_path.rglob(".*.tmp")) == theirs
    assert len(theirs) == 2


def test_what_is_being_written_is_never_taken_for_a_leftover(tmp_path):
    folder = ExperimentFolder(tmp_path)
    trial = folder.trial("linear", 0)

    def parts():
        yield b"one "
        folder.remove_leftovers()
        trial.remove_leftovers()
        yield b"two"

    write_parts(trial.eval_run("a"), parts())
    assert trial.eval_run("a").read_text() == "one two"
    with write_folder(trial.model) as temporary:
        (temporary / "weights").write_text("all")
        folder.remove_leftovers()
    assert (trial.model / "weights").read_text() == "all"
    assert not list(tmp_path.rglob(".*.tmp"))


def test_a_lock_is_held_by_one(tmp_path):
    with locked(tmp_path / "new" / ".lock") as first, locked(tmp_path / "new" / ".lock", wait=False) as second:
        assert (first, second) == (True, False)
    with locked(tmp_path / "new" / ".lock", wait=False) as again:
        assert again


def test_byte_strings_hash_by_their_bounds():
    assert sha256_parts([b"ab", b"c"]) == hashlib.sha256(b"2:ab1:c").hexdigest()
    assert sha256_parts([b"ab", b"c"]) != sha256_parts([b"a", b"bc"])


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ProjheadsError("f.yaml:3: wrong"), 2, "error: f.yaml:3: wrong\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2, "No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2, "free some space and rerun the same command"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/x"),
            2,
            "error: /x: No such file; finished work is kept\n",
        ),
        (OSError(errno.EMFILE, "Too many open files"), 2, "error: Too many open files;"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "a\nb\udcff"),
            2,
            "error: 'a\\nb\\udcff': File name too long",
        ),
        (KeyboardInterrupt(), 130, "rerun the same command to resume"),
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

    def library(arguments):
        raise OSError("of a library, without a number")

    with pytest.raises(OSError, match="of a library"):
        run_command(library, [])


@pytest.mark.parametrize("package", ["train", "eval"])
def test_commands_set_the_environment_before_torch_is_loaded_and_imports_set_nothing(package):
    code = (
        f"import os, sys, {package}.__main__ as command, experiment.console.command as console\n"
        "assert 'torch' not in sys.modules and 'OMP_WAIT_POLICY' not in os.environ\n"
        "console.prepare_process()\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
        "assert os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'] == '7'"  # what the user has set
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "7"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], env=environment, check=True)
