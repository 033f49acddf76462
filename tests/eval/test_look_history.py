"""Looks at experiments with known scores, against decide called by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from eval.__main__ import main
from eval.look_history import note_look
from eval.report.reading import load_experiment
from eval.report.table import query_ids, scores_of
from eval.verdicts import decide
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import RoundsRecord
from tests.eval.report.factory import Plan, make_experiment

EFFECTS = {"linear": 0.0, "ffn(depth=2)": 0.002, "upscaled": -0.03}


def folder_with(path, seeds):
    return make_experiment(path, Plan(effects=EFFECTS, seeds=seeds))


def read(path):
    return RoundsRecord.find(ExperimentFolder(path).rounds_json)


def decisions(path, looks, order):
    """Call decide with each variant's seeds in a given order."""
    experiment = load_experiment(path)
    queries = {name: query_ids(experiment, name) for name in experiment.datasets}
    scores = {
        label: scores_of(
            sorted((t for t in experiment.trials if t.label == label), key=lambda t: order.index(t.seed)),
            "nDCG@10",
            queries,
        )
        for label in EFFECTS
    }
    return decide(scores, "linear", looks)


def test_each_report_on_new_seeds_is_a_look_and_the_same_seeds_are_not(tmp_path):
    path = folder_with(tmp_path / "a", (4, 5, 6))
    assert read(path) is None
    main(["report", str(path)])
    main(["report", str(path)])
    record = read(path)
    assert [look.seeds for look in record.looks] == [dict.fromkeys(EFFECTS, 3)]
    assert record.done
    folder_with(path, (0, 4, 5, 6))
    main(["report", str(path)])
    record = read(path)
    assert [look.seeds for look in record.looks] == [dict.fromkeys(EFFECTS, 3), dict.fromkeys(EFFECTS, 4)]
    assert record.trained == {label: [4, 5, 6, 0] for label in EFFECTS}
    expected = decisions(path, [3, 4], [4, 5, 6, 0])
    assert {label: (s.state, s.look, s.low) for label, s in record.looks[1].states.items()} == {
        label: (one.word, one.look, one.low) for label, one in expected.items()
    }


def test_scores_that_allow_no_verdict_are_not_a_look(tmp_path):
    path = folder_with(tmp_path / "a", (0, 1))
    note_look(path)
    assert read(path) is None


def test_an_experiment_with_a_question_is_not_looked_at_by_its_report(tmp_path):
    path = folder_with(tmp_path / "a", (0, 1, 2))
    config = yaml.safe_load((path / "experiment.yaml").read_text())
    question = {"resolution": 1.0, "seeds": [3, 9], "queries": "these"}
    (path / "experiment.yaml").write_text(yaml.safe_dump(config | {"question": question}))
    note_look(path)
    assert read(path) is None


def test_a_trial_that_was_deleted_is_missing_from_the_looks_that_saw_it(tmp_path):
    path = folder_with(tmp_path / "a", (0, 1, 2, 3))
    note_look(path)
    for trial in path.glob("trials/*/seed-1/trial.json"):
        trial.unlink()
    note_look(path)
    assert [look.seeds for look in read(path).looks] == [dict.fromkeys(EFFECTS, 3)]


def test_a_damaged_file_is_one_line(tmp_path, capsys):
    path = folder_with(tmp_path / "a", (0, 1, 2))
    (path / "rounds.json").write_text(json.dumps({"done": "yes"}))
    with pytest.raises(Exception, match=r"rounds\.json: done: .*; delete it and rerun python -m eval"):
        note_look(path)


def test_looks_load_no_torch():
    code = "import sys, eval.look_history; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
