import json
import shutil
import subprocess
import sys

import pytest

from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from experiment.disk.files import write_json
from experiment.disk.records import TrialRecord
from projheads.errors import ProjheadsError
from tests.eval.report.factory import Plan, make_experiment, without


@pytest.fixture
def folder(tmp_path):
    return make_experiment(tmp_path / "small", Plan(queries=5))


def test_everything_on_disk_is_read_in_the_configurations_order(folder):
    experiment = load_experiment(folder)
    assert experiment.name == "small"
    assert experiment.description == "Which head is best?"
    assert experiment.measures == ("nDCG@10", "R@100", "RR@10")
    assert experiment.datasets == ("pydocs",)
    assert [(trial.label, trial.seed) for trial in experiment.trials][:4] == [
        ("linear", 0),
        ("linear", 1),
        ("linear", 2),
        ("ffn(depth=2)", 0),
    ]
    assert len(experiment.trials) == 12
    assert [(one.record.name, one.record.seed) for one in experiment.references] == [
        ("backbone", 0),
        ("bm25", 0),
        ("untrained", 0),
        ("untrained", 1),
        ("untrained", 2),
    ]
    assert len(experiment.trials[0].steps) == 44


def test_a_folder_without_trials_is_a_users_mistake(tmp_path):
    with pytest.raises(ProjheadsError, match="holds no trials"):
        load_experiment(tmp_path)


def test_trials_without_evaluations_are_a_users_mistake(folder):
    for path in folder.glob("*/*/*/eval/*.json"):
        path.unlink()
    with pytest.raises(ProjheadsError, match="no trial has an evaluation yet"):
        build_leaderboard(load_experiment(folder))


def test_a_broken_line_of_train_jsonl_is_named_by_its_number(folder):
    path = next(folder.glob("trials/*/*/train.jsonl"))
    path.write_text('{"step": 1}\n{"step"\n')
    with pytest.raises(ProjheadsError, match=r"train\.jsonl, line 2"):
        load_experiment(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["dataset"].update(hash="other"), "the content or the queries of pydocs differ"),
        (
            lambda record: record.update(measures=without(record["measures"], "q3")),
            "the content or the queries of pydocs differ",
        ),
        (lambda record: record["measures"]["nDCG@10"].pop("q3"), "measures.R@100: scores other queries than"),
        (lambda record: record["measures"].pop("RR@10"), 'unknown measure "RR@10"'),
        (lambda record: record.pop("index"), "has no index"),
    ],
)
def test_evaluations_that_do_not_belong_together_are_refused_by_name(folder, change, message):
    path = sorted(folder.glob("trials/*/seed-1/eval/pydocs.json"))[-1]
    record = json.loads(path.read_text())
    change(record)
    write_json(path, record)
    with pytest.raises(ProjheadsError, match=message) as caught:
        build_leaderboard(load_experiment(folder))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_baselines_are_refused(folder):
    path = sorted(folder.glob("trials/ffn*/seed-1/trial.json"))[0]
    TrialRecord.read(path).replace(is_baseline=True).write(path)
    with pytest.raises(ProjheadsError, match="exactly one baseline"):
        build_leaderboard(load_experiment(folder))


def test_two_trials_of_one_variant_and_seed_are_refused(folder):
    first = sorted(folder.glob("trials/ffn*/seed-1"))[0]
    shutil.copytree(first, folder / "trials" / "again" / "seed-1")
    with pytest.raises(ProjheadsError, match="has 2 trials of ffn"):
        load_experiment(folder)


def test_the_report_imports_neither_torch_nor_faiss():
    modules = "eval.report, eval.__main__, eval.score, eval.foreign, eval.export"
    code = f"import sys, {modules}; print([m for m in ('torch', 'faiss') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
