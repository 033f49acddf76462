"""Settings that are compared, from the configuration to the leaderboard."""

import json
import shutil
from pathlib import Path

import pytest

from answer.__main__ import main
from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import ReferenceRecord, RoundsRecord
from tests.answer.conftest import YAML
from train.experiment import train_experiment

LABELS = [
    "linear @ max_pairs=8, init=torch",
    "upscaled(residual=true) @ max_pairs=8, init=torch",
    "linear @ max_pairs=16, init=pca",
]


@pytest.fixture
def folder(collection, backbone, tmp_path, monkeypatch):
    shutil.copytree(collection, tmp_path, dirs_exist_ok=True)
    text = YAML.format(backbone=backbone)
    text = text.replace("linear, ffn(depth=2), broken", "linear, upscaled(residual=true)").replace("epochs: 2, ", "")
    (tmp_path / "try.yaml").write_text(text + "axes: {max_pairs: [8, 16], heads.init: [torch, pca]}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(path):
    return {
        (trial.path.parent.name.partition("@")[0], trial.path.name): trial.read_trial().weights_hash
        for trial in ExperimentFolder(path).trials()
    }


def test_every_variant_is_trained_and_compared_with_the_baseline_at_each_point(folder, capsys):
    assert run_command(main, ["try.yaml", "question=null", "seeds=[0, 1, 2]"]) == 0
    experiment = ExperimentFolder(folder / "out")
    records = [trial.read_trial() for trial in experiment.trials()]
    assert len(records) == 2 * 4 * 3
    assert {record.label for record in records} == {"linear", "upscaled(residual=true)"}
    (last,) = [
        path for path in (folder / "out" / "trials").iterdir() if path.name == "linear@max_pairs=16-heads.init=pca"
    ]
    assert json.loads((last / "seed-0" / "trial.json").read_text())["axes"] == {"max_pairs": 16, "heads.init": "pca"}
    # An untrained row for each start: that of pca depends on the pairs too.
    starts = {
        (one.path.parent.name, *ReferenceRecord.read(one.reference_json).axes.values())
        for one in experiment.references()
    }
    assert starts == {
        ("untrained@max_pairs=8-heads.init=torch", 8, "torch"),
        ("untrained@max_pairs=8-heads.init=pca", 8, "pca"),
        ("untrained@max_pairs=16-heads.init=torch", 16, "torch"),
        ("untrained@max_pairs=16-heads.init=pca", 16, "pca"),
    }
    # The same as an experiment with these values and without axes.
    alone = load_config(Path("try.yaml"), ["question=null", "seeds=[0]", "axes={}", "train.max_pairs=16", "output=one",
                                           "heads.init=pca"])  # fmt: skip
    train_experiment(alone)
    found = {
        (trial.path.parent.name.partition("@")[0], trial.path.name): trial.read_trial().weights_hash
        for trial in experiment.trials()
        if trial.path.parent.name.endswith("@max_pairs=16-heads.init=pca") and trial.path.name == "seed-0"
    }
    assert found == weights(Path("one"))
    rows = {row["label"]: row for row in json.loads((experiment.report / "leaderboard.json").read_text())["rows"]}
    assert set(LABELS) <= rows.keys()
    assert len(rows) == 8
    assert json.loads((experiment.report / "leaderboard.json").read_text())["baseline"] == LABELS[0]
    for label, row in rows.items():
        if label.startswith("upscaled"):
            base = rows[label.replace("upscaled(residual=true)", "linear")]
            means = [one["mean"]["nDCG@10"] for one in (row, base)]
            assert row["verdict"]["these_queries"]["difference"] == pytest.approx(means[0] - means[1])
    capsys.readouterr()
    assert run_command(main, ["try.yaml", "question=null", "seeds=[0, 1, 2]"]) == 0
    assert capsys.readouterr().out.count("nothing to do") == 1


def test_a_question_is_answered_at_each_point(folder):
    assert run_command(main, ["try.yaml", "question.seeds=3..4", "axes.heads.init=[pca]"]) == 0
    record = RoundsRecord.read(folder / "out" / "rounds.json")
    assert record.done
    assert record.next.keys() == {
        f"{head} @ max_pairs={pairs}, init=pca" for head in ("linear", "upscaled(residual=true)") for pairs in (8, 16)
    }
    for pairs in (8, 16):
        variant = record.looks[-1].states[f"upscaled(residual=true) @ max_pairs={pairs}, init=pca"]
        assert record.next[f"linear @ max_pairs={pairs}, init=pca"] == variant.seeds


def test_points_keep_their_sweeps_and_backbones_apart(folder):
    shared = ["question=null", "seeds=[0]", "heads.variants=[linear]", "eval.references=[]", "heads.init=torch"]
    rates = "sweep={grid: {optimizer.head_lr: [1e-3, 1e-2]}, extend: 0}"
    train_experiment(load_config(Path("try.yaml"), [*shared, rates, "axes={trainable: [all, head]}"]))
    train_experiment(load_config(Path("try.yaml"), [*shared, rates, "axes={}", "output=one"]))
    (alone,) = ExperimentFolder(Path("one")).trials()
    points = {trial.path.parent.name: trial.read_trial() for trial in ExperimentFolder(Path("out")).trials()}
    assert points.keys() == {"linear@trainable=all", "linear@trainable=head"}
    assert points["linear@trainable=head"].weights_hash == alone.read_trial().weights_hash
    assert points["linear@trainable=all"].weights_hash != alone.read_trial().weights_hash
    assert {path.name for path in Path("out/sweep").iterdir()} == points.keys()


def test_reference_rows_are_those_of_the_points_that_they_depend_on(folder, capsys):
    widths = "axes={heads.out_features: [4, 8], model.layer: [1, 2], epochs: [1, 2]}"
    rows = "eval.references=[bm25, backbone, untrained]"
    command = ["try.yaml", "question=null", "seeds=[0]", "heads.init=torch", "train.max_pairs=8", widths, rows]
    assert run_command(main, [*command, "--dry-run"]) == 0
    assert "set: 0 of 0 finished trials have an evaluation" in capsys.readouterr().out
    assert run_command(main, command) == 0
    board = json.loads((folder / "out" / "report" / "leaderboard.json").read_text())
    scores = {row["label"]: row["mean"]["nDCG@10"] for row in board["references"]}
    assert scores.keys() == {
        "bm25",
        "backbone @ layer=1",
        "backbone @ layer=2",
        *(f"untrained @ out_features={width}, layer={layer}" for width in (4, 8) for layer in (1, 2)),
    }
    assert len(set(scores.values())) == 7
    alone = [
        *command, "axes={}", "output=one", "heads.out_features=8", "model.layer=1", "train.epochs=1"
    ]  # fmt: skip
    assert run_command(main, alone) == 0
    one = json.loads((folder / "one" / "report" / "leaderboard.json").read_text())
    expected = {row["label"]: row["mean"]["nDCG@10"] for row in one["references"]}
    assert scores["untrained @ out_features=8, layer=1"] == expected["untrained"]
    assert scores["backbone @ layer=1"] == expected["backbone"]
    capsys.readouterr()
    assert run_command(main, command) == 0
    assert capsys.readouterr().out.count("nothing to do") == 1
    assert run_command(main, [*command, "axes={heads.out_features: [8, 4], model.layer: [2, 1], epochs: [1, 2]}"]) == 0
    board = json.loads((folder / "out" / "report" / "leaderboard.json").read_text())
    assert {row["label"]: row["mean"]["nDCG@10"] for row in board["references"]} == scores
    assert all(row["seeds"] == [0] for row in board["references"])
