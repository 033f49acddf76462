"""Questions answered from start to end: a tiny backbone, a tiny collection, the real host."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from answer import driver
from answer.__main__ import main
from eval.look_history import survivors
from eval.report.reading import load_experiment
from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import RoundsRecord
from projheads import registry
from projheads.errors import ProjheadsError
from projheads.hosts import available_hosts
from tests.answer.conftest import YAML

pytestmark = pytest.mark.skipif(not available_hosts(), reason="no host is installed")

ROOT = Path(__file__).parents[2]
BROKEN = '''"""broken: a constant, whatever the token."""

import torch

from projheads import Head, register_head


@register_head("broken")
class Broken(Head):
    """The first axis."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.weight = torch.nn.Parameter(torch.ones(out_features))

    def reset_parameters(self):
        torch.nn.init.ones_(self.weight)

    def forward(self, x):
        return (x[..., :1] * 0 + 1) * self.weight

    def nonlinear_part(self):
        return None
'''


@pytest.fixture(scope="module", autouse=True)
def own_registry():
    """Forget the head that these tests register, and no other."""
    registry.list_heads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_HEADS", dict(registry._HEADS))
        yield


@pytest.fixture(scope="module")
def work(tmp_path_factory, collection, backbone):
    """A folder with an experiment in which one variant is hopeless."""
    folder = tmp_path_factory.mktemp("answer")
    shutil.copytree(collection, folder, dirs_exist_ok=True)
    (folder / "try.yaml").write_text(YAML.format(backbone=backbone))
    (folder / "broken.py").write_text(BROKEN)
    return folder


@pytest.fixture(scope="module")
def answered(work):
    """The folder of a command that was never stopped, and what it printed."""
    with contextlib.chdir(work), contextlib.redirect_stdout(io.StringIO()) as told:
        assert run_command(main, ["try.yaml", "output=whole", "--heads", "broken.py"]) == 0
    return ExperimentFolder(work / "whole"), told.getvalue()


def content(folder):
    """Everything that must not depend on when a command was stopped: scores, models, rounds."""
    scores = {
        path.relative_to(folder).as_posix(): json.loads(path.read_text())["measures"]
        for path in sorted(folder.glob("trials/*/seed-*/eval/set.json"))
    }
    weights = {
        path.relative_to(folder).as_posix(): json.loads(path.read_text())["weights_hash"]
        for path in sorted(folder.glob("trials/*/seed-*/trial.json"))
    }
    return scores, weights, hashlib.sha256((folder / "rounds.json").read_bytes()).hexdigest()


def test_seeds_are_added_until_each_variant_is_decided_or_has_the_most(answered):
    answered, told = answered
    record = RoundsRecord.read(answered.rounds_json)
    assert record.done
    assert record.looks[0].seeds == {"linear": 5, "ffn(depth=2)": 3, "broken": 3}
    last = record.looks[-1]
    assert last.states["broken"].state == "worse"
    assert last.seeds == record.next
    # A decided variant is frozen at the look that decided it, an undecided one ends with the most seeds.
    for label, state in last.states.items():
        looked = record.looks[state.look].seeds[label]
        assert last.seeds[label] == (looked if state.state != "undecided" else 5)
    counts = Counter(trial.read_trial().label for trial in answered.trials())
    assert counts == last.seeds
    assert len(answered.references()) == 3
    assert (answered.report / "leaderboard.html").exists()
    assert f"look {len(record.looks)}: " in told


def test_killed_in_its_second_round_it_ends_with_the_same_bytes(work, answered, monkeypatch):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "answer", "try.yaml", "--heads", "broken.py"]
    process = subprocess.Popen(command, cwd=work, env=environment, stderr=subprocess.PIPE, text=True)
    while not (work / "out" / "rounds.json").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not RoundsRecord.read(work / "out" / "rounds.json").done
    monkeypatch.chdir(work)
    assert run_command(main, command[3:]) == 0
    assert content(work / "out") == content(answered[0].path)


def test_a_finished_one_is_answered_again_without_training_or_a_further_look(work, answered, monkeypatch, capsys):
    answered, _ = answered
    monkeypatch.chdir(work)
    before = content(answered.path)
    assert run_command(main, ["try.yaml", "output=whole", "--heads", "broken.py"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert content(answered.path) == before


def test_more_seeds_than_were_asked_for_first_make_every_look_stricter(work, answered, monkeypatch, capsys):
    answered, _ = answered
    monkeypatch.chdir(work)
    before = RoundsRecord.read(answered.rounds_json)
    options = ["try.yaml", "output=whole", "--heads", "broken.py", "question.seeds=3..6", "question.resolution=0.01"]
    assert run_command(main, options) == 0
    after = RoundsRecord.read(answered.rounds_json)
    assert after.question == before.question
    assert after.next["ffn(depth=2)"] == 6
    assert after.looks[: len(before.looks)][:-1] == before.looks[:-1]


def test_a_race_drops_losers_and_confirms_its_winner_on_new_seeds(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert run_command(main, ["try.yaml", "output=race", "question.race=true", "--heads", "broken.py"]) == 0
    folder, confirming = ExperimentFolder(work / "race"), ExperimentFolder(work / "race-confirm")
    record = RoundsRecord.read(folder.rounds_json)
    assert record.done
    told = capsys.readouterr().out
    assert "look 1: heads left in the race besides linear: 1 of 2; next: up to 5 seeds" in told
    assert "the race is over; done with up to 5 seeds" in told
    assert "Of 3 heads, " in told
    report = (folder.report / "leaderboard.md").read_text("utf-8")
    assert f"The race took {len(record.looks)} rounds." in report
    assert "undecided on these queries after" not in report
    page = (folder.report / "leaderboard.html").read_text("utf-8")
    assert "Read race-confirm/report/leaderboard.html" in page or "Keep linear: no head in this race" in page
    assert "left the race after 3 seeds" in next(line for line in report.splitlines() if line.startswith("| broken"))
    counts = Counter(trial.read_trial().label for trial in folder.trials())
    assert counts["broken"] == 3
    best = max(counts.keys() - {"linear"}, key=lambda label: counts[label])
    assert best == "ffn(depth=2)"
    assert counts[best] > 3
    if survivors(record, load_experiment(folder.path))[0] == "linear":
        assert not confirming.path.exists()
    else:
        seeds = {(trial.read_trial().label, trial.read_trial().seed) for trial in confirming.trials()}
        assert seeds == {(label, seed) for label in ("linear", best) for seed in range(5, 10)}
        assert (confirming.report / "leaderboard.html").exists()


@pytest.mark.parametrize("question", ["{resolution: 2.0, seeds: 3..5}", "{resolution: 2.0, seeds: 3..5, race: true}"])
def test_only_a_race_is_confirmed(work, answered, monkeypatch, question):
    """The seeds of the confirming experiment are none of those that chose the winner."""
    monkeypatch.chdir(work)
    config = load_config(Path("try.yaml"), ["output=whole", f"question={question}"])
    monkeypatch.setattr(driver, "survivors", lambda rounds, experiment: ("ffn(depth=2)", "linear"))
    confirming = driver.confirming_experiment(config)
    if "race" not in question:
        assert confirming is None
        return
    assert (str(confirming.output), confirming.question) == ("whole-confirm", None)
    assert confirming.seeds == (5, 6, 7, 8, 9)
    assert [str(one) for one in confirming.heads.variants] == ["linear", "ffn(depth=2)"]
    monkeypatch.setattr(driver, "survivors", lambda rounds, experiment: ("linear", "ffn(depth=2)"))
    assert driver.confirming_experiment(config) is None


def test_without_a_question_it_is_train_then_eval(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    options = [
        "try.yaml",
        "output=list",
        "question=null",
        "seeds=[0, 1, 2]",
        "train.max_steps=1",
        "--heads",
        "broken.py",
    ]
    assert run_command(main, options) == 0
    folder = ExperimentFolder(work / "list")
    assert len(folder.trials()) == 9
    record = RoundsRecord.read(folder.rounds_json)
    assert (len(record.looks), record.done, record.next) == (1, True, {})
    assert (folder.report / "leaderboard.md").exists()


def test_dry_run_prints_the_plan_and_writes_nothing(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert run_command(main, ["try.yaml", "output=dry", "--heads", "broken.py", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "resolution: 2.0" in told.out
    assert "3 variants x 3 to 5 seeds, then up to 5 in rounds into dry" in told.err
    assert "dry: 11 trials, 0 finished" in told.out
    assert not (work / "dry").exists()


@pytest.mark.parametrize(
    ("question", "warned"),
    [
        # (z(1 - .05 / 2) + z(.9)) sqrt(2 .0468^2 / 32) = (1.960 + 1.282) .0117 = 3.79 points; 32 (3.79 / 2)^2 = 115.1
        ({"queries": "new"}, "within about 3.8 points at best, whatever the number of seeds; question.resolution=2 "),
        ({"queries": "new", "resolution": "4"}, None),
        ({"queries": "these"}, None),
    ],
)
def test_too_few_queries_are_announced_before_the_first_trial(work, monkeypatch, capsys, question, warned):
    monkeypatch.chdir(work)

    def train_experiment(config, executor):
        raise ProjheadsError("the first trial would start here")

    monkeypatch.setattr(driver, "train_experiment", train_experiment)
    options = ["try.yaml", "output=few", "--heads", "broken.py"]
    assert run_command(main, [*options, *(f"question.{key}={value}" for key, value in question.items())]) == 2
    told = " ".join(capsys.readouterr().out.split())
    if warned:
        assert f"32 judged queries can show equivalence for new queries {warned}needs about 116 queries" in told
    else:
        assert "queries can show" not in told


def test_a_mistake_is_one_line_and_exit_code_2(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert run_command(main, ["try.yaml", "--heads", "broken.py", "question.resolution=0"]) == 2
    assert capsys.readouterr().err.startswith("error: command line, question.resolution=0: question.resolution: ")


def test_a_trial_that_fails_is_exit_code_1(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    options = ["try.yaml", "--heads", "broken.py", "output=failed", "question=null", "seeds=[0]", "train.max_steps=1"]

    def fail(*arguments, **named):
        monkeypatch.undo()
        monkeypatch.chdir(work)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("train.trainer.training_steps", fail)
    assert run_command(main, options) == 1
    assert "1 of 3 trials failed" in capsys.readouterr().out
