"""Training and evaluation as a user runs them, in the environment at hand: with PyLate, or with it absent."""

import contextlib
import hashlib
import importlib
import io
import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from huggingface_hub import ModelCard

from experiment.collections import Document, write_beir_folder
from experiment.config.load import load_config, override_heads
from experiment.console.command import run_command
from projheads import ProjheadsError, list_heads, registry
from projheads.card import section_of
from projheads.hosts import available_hosts, load_host

pytestmark = pytest.mark.skipif(not available_hosts(), reason="no host is installed")

NOUNS = ["cat", "dog", "bird", "paris", "france", "rain", "sun", "mat"]
VERBS = ["sat", "run", "walk", "is"]
YAML = """\
output: out
cache: cache
seeds: [0, 1]
device: cpu
model: {{backbone: {backbone}, query_length: 12, document_length: 16}}
heads: {{out_features: 8, variants: [linear, doubled(factor=3.0)]}}
train: {{data: set, batch_size: 4, validation_pairs: 4}}
sweep: {{}}
eval: {{datasets: [set]}}
"""
HEAD = '''"""doubled: y = factor W x."""

from torch import Tensor, nn

from projheads import Head, register_head


@register_head("doubled")
class Doubled(Head):
    """A matrix and a factor."""

    def __init__(self, in_features: int, out_features: int, *, factor: float = 2.0) -> None:
        super().__init__(in_features, out_features)
        self.factor = factor
        self.linear = nn.Linear(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        self.linear.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.linear(x)

    def nonlinear_part(self) -> None:
        return None
'''


@pytest.fixture(scope="module")
def work(tmp_path_factory, backbone):
    """A folder with an experiment, a collection and the file of a head that the project does not know; trained."""
    folder = tmp_path_factory.mktemp("work")
    words = [(noun, verb) for noun in NOUNS for verb in VERBS]
    corpus = [Document(f"d{i}", noun, f"the {noun} {verb} on a mat") for i, (noun, verb) in enumerate(words)]
    queries = {f"q{i}": f"what {verb} the {noun}" for i, (noun, verb) in enumerate(words)}
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(len(words))}
    write_beir_folder(folder / "set", corpus, queries, {"train": qrels, "test": qrels})
    (folder / "try.yaml").write_text(YAML.format(backbone=backbone))
    (folder / "mine.py").write_text(HEAD)
    done = run(folder, "train", "try.yaml", "--heads", "mine.py")
    assert done.returncode == 0, done.stderr
    return folder


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(folder, command, *arguments):
    """Run a command as a fresh process would: with no head known but the project's own."""
    main = importlib.import_module(f"{command}.__main__").main
    list_heads()
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(registry, "_HEADS", dict(registry._HEADS)),
        patch.object(registry, "_FILES", {}),
    ):
        code = run_command(main, arguments)
    return Done(code, out.getvalue(), err.getvalue())


def trials(folder):
    return {path.parent: json.loads(path.read_text()) for path in sorted(folder.glob("out/trials/*/seed-*/trial.json"))}


def test_trials_are_trained_and_evaluated_by_the_host_that_is_installed(work):
    assert {trial["host"] for trial in trials(work).values()} == {available_hosts()[0]}
    assert "heads.files" not in (work / "try.yaml").read_text()
    done = run(work, "eval", "out")
    assert done.returncode == 0, done.stderr
    for folder in trials(work):
        means = json.loads((folder / "eval" / "set.json").read_text())["means"]
        assert 0 <= means["nDCG@10"] <= 1
    page = (work / "out" / "report" / "leaderboard.md").read_text()
    assert "doubled" in page
    again = run(work, "eval", "out")
    assert "nothing to do" in again.stdout


def json_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_json_of_a_command_is_all_that_its_output_holds(work):
    planned = json_of(run(work, "train", "try.yaml", "--heads", "mine.py", "--dry-run", "--json"))
    assert (planned["trials"], planned["config"]["seeds"]) == (4, [0, 1])
    trained = json_of(run(work, "train", "try.yaml", "--heads", "mine.py", "--json"))
    assert trained["failed"] == []
    assert [(one["label"], one["seed"], one["status"]) for one in trained["trials"]] == [
        (label, seed, "finished") for label in ("linear", "doubled(factor=3.0)") for seed in (0, 1)
    ]
    assert (work / trained["trials"][0]["folder"] / "model").is_dir()
    board = json.loads((work / "out" / "report" / "leaderboard.json").read_text())
    assert json_of(run(work, "eval", "out", "--json")) == board
    assert json_of(run(work, "answer", "try.yaml", "--heads", "mine.py", "--json")) == {
        "leaderboards": [board], "failed": []
    }  # fmt: skip
    assert json_of(run(work, "eval", "out", "--verify", "--json")) == {"verified": "out"}
    model = work / "out" / "trials" / "linear" / "seed-0" / "model"
    given = json_of(run(work, "eval", "--model", str(model), "--datasets", "set", "--json", "--output", "given"))
    assert given["leaderboard"] is None
    (measured,) = given["means"].values()
    assert (
        measured["set"]["nDCG@10"] == json.loads((model.parent / "eval" / "set.json").read_text())["means"]["nDCG@10"]
    )
    options = ("--source", "set", "--out", "mined.jsonl", "--negatives", "1", "--json")
    mined = json_of(run(work, "train", "mine", *options))
    assert (mined["tuples"], mined["made_by"], mined["negatives"]) == (32, "python -m train mine", 1)


@pytest.mark.parametrize("program", ["train", "eval", "answer", "projheads"])
def test_every_command_knows_json(program):
    parser = importlib.import_module(f"{program}.__main__").command_parser()
    commands = next((one.choices for one in parser._actions if isinstance(one.choices, dict)), {program: parser})
    assert commands
    for name, command in commands.items():
        assert "--json" in command.format_help(), name


def test_a_model_opens_in_the_host_and_has_the_rankings_of_its_run_file(work):
    """MaxSim by hand over what the plain adapter encodes, against the run that the program wrote."""
    run(work, "eval", "out", "--heads", "mine.py")
    folder = next(folder for folder, trial in trials(work).items() if trial["label"] == "linear")
    model = load_host("auto", model_folder=folder / "model").load(str(folder / "model"))
    assert model.host == available_hosts()[0]
    lines = [json.loads(line) for line in (work / "set" / "corpus.jsonl").read_text().splitlines()]
    documents = {line["_id"]: f"{line['title']} {line['text']}" for line in lines}
    embeddings = dict(zip(documents, model.encode(list(documents.values()), is_query=False), strict=True))
    query = model.encode(["what sat the cat"], is_query=True)[0]
    scores = {name: float((query @ document.T).max(axis=1).sum()) for name, document in embeddings.items()}
    written = [line.split() for line in (folder / "eval" / "set.run").read_text().splitlines()]
    found = {columns[2]: float(columns[4]) for columns in written if columns[0] == "q0"}
    np.testing.assert_allclose([found[name] for name in found], [scores[name] for name in found], atol=2e-2)


def test_the_cards_of_trials_have_their_training_leaderboard_and_scores(work):
    run(work, "eval", "out", "--heads", "mine.py")
    for folder, trial in trials(work).items():
        card = ModelCard.load(folder / "model" / "README.md")
        means = json.loads((folder / "eval" / "set.json").read_text())["means"]
        scores = {one.metric_type: one.metric_value for one in card.data.eval_results}
        assert scores == pytest.approx(means, abs=1e-6)
        assert {(one.dataset_name, one.dataset_split) for one in card.data.eval_results} == {("set", "test")}
        assert "Data: set (train), 28 pairs." in card.text
        assert f"seed {trial['seed']} of the experiment try." in card.text
        assert "new queries" in section_of(card, "Results")
        assert str(work) not in str(card)
        own = trial["label"] != "linear"
        assert ("import_head_file('mine.py')" in card.text) == own
        written = (folder / "model" / "README.md").stat().st_mtime_ns
        run(work, "eval", "report", "out")
        assert (folder / "model" / "README.md").stat().st_mtime_ns == written
        code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
        (folder / "mine.py").write_text(HEAD)
        names = {}
        with contextlib.chdir(folder), patch.multiple(registry, _HEADS=dict(registry._HEADS), _FILES={}):
            exec(compile(code, "README.md", "exec"), names)
        assert names["documents"][0].shape[-1] == 8
        (folder / "mine.py").unlink()


def test_the_heads_file_is_recorded_with_its_content(work):
    assert "- mine.py" in (work / "out" / "experiment.yaml").read_text()
    digest = hashlib.sha256(HEAD.encode()).hexdigest()
    files = {trial["label"]: trial["head_files"] for trial in trials(work).values()}
    assert files == {"linear": {}, "doubled(factor=3.0)": {"doubled": digest}}


def test_a_configuration_that_is_sent_to_another_process_brings_its_heads(work):
    with contextlib.chdir(work), patch.object(registry, "_HEADS", dict(registry._HEADS)):
        config = load_config(Path("try.yaml"), override_heads(["mine.py"]))
    sent = pickle.dumps(config)
    assert "doubled" not in list_heads()
    with contextlib.chdir(work), patch.object(registry, "_HEADS", dict(registry._HEADS)):
        assert pickle.loads(sent) == config  # noqa: S301 - what this test has just made
        assert "doubled" in list_heads()


def test_a_change_of_the_file_is_a_change_of_the_trial(work):
    """The trials of that head are trained again, and no others; evaluation does not mix the two."""
    stamps = {folder: folder.joinpath("trial.json").stat().st_mtime_ns for folder in trials(work)}
    (work / "mine.py").write_text(HEAD.replace("self.factor * self", "2 * self.factor * self"))
    try:
        done = run(work, "eval", "out")
        assert "doubled(factor=3.0) seed 0: skipped, the file of its head has changed" in done.stdout
        done = run(work, "train", "try.yaml", "--heads", "mine.py")
        assert done.returncode == 0, done.stderr
        changed = {f for f in trials(work) if f.joinpath("trial.json").stat().st_mtime_ns != stamps[f]}
        assert {trials(work)[folder]["label"] for folder in changed} == {"doubled(factor=3.0)"}
    finally:
        (work / "mine.py").write_text(HEAD)
        run(work, "train", "try.yaml", "--heads", "mine.py")


def test_a_file_that_was_moved_is_told_and_given_anew(work):
    (work / "elsewhere").mkdir()
    (work / "mine.py").rename(work / "elsewhere" / "mine.py")
    try:
        done = run(work, "eval", "out")
        assert done.returncode == 2
        assert "mine.py: no such Python file; if it was moved, use --heads FILE" in done.stderr
        done = run(work, "eval", "out", "--heads", "elsewhere/mine.py")
        assert done.returncode == 0, done.stderr
    finally:
        (work / "elsewhere" / "mine.py").rename(work / "mine.py")
        (work / "elsewhere").rmdir()
    assert run(work, "eval", "out", "--heads", "mine.py").returncode == 0


def test_its_checkpoint_opened_without_the_file_says_what_to_do(work):
    folder = next(folder for folder, trial in trials(work).items() if trial["label"] != "linear")
    with pytest.raises(ProjheadsError, match=r'unknown head "doubled".*--heads FILE') as error:
        load_host().load(str(folder / "model"))
    assert "\n" not in str(error.value)
