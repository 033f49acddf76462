"""The column of the linear stand-ins, in every format that has it."""

import csv
import json
import re
import statistics

import pytest

from eval.report.linearised import has_linearised, if_linearised
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.report.write import write_report
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord
from tests.eval.report.factory import Plan, make_experiment, stand_in

CURVED = 'ffn(depth=2, activation="gelu")'
TITLE = "nDCG@10 if linearised"


def with_stand_ins(folder, labels=(CURVED,)):
    """Give trials of the labels a stand-in that scores 0.01 less than seed and dataset make it; return the means."""
    means = []
    for files in ExperimentFolder(folder).trials():
        trial = files.read_trial()
        if trial.label in labels:
            for path in sorted(files.evaluations.glob("*.json")):
                record, loss = EvaluationRecord.read(path), 0.01 * (1 + trial.seed)
                means.append(record.means["nDCG@10"] - loss)
                record.replace(linearised=stand_in(record, loss)).write(path)
    return means


def row_of(board, label):
    return next(row for row in board.rows if row.label == label)


def test_it_is_the_mean_over_seeds_and_data_sets_and_a_linear_head_is_its_own(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(datasets=("pydocs", "scifact")))
    means = with_stand_ins(folder)
    assert len(means) == 6
    board = build_leaderboard(load_experiment(folder))
    assert has_linearised(board)
    assert if_linearised(board, row_of(board, CURVED)) == pytest.approx(statistics.fmean(means), abs=1e-12)
    linear = row_of(board, "linear")
    assert if_linearised(board, linear) == linear.mean("nDCG@10")
    other = row_of(board, 'residual(inner=glu(activation="silu"))')
    assert if_linearised(board, other) is None
    assert if_linearised(board, board.references[0]) is None


def test_a_trial_without_one_leaves_the_cell_empty(tmp_path):
    folder = make_experiment(tmp_path / "x")
    with_stand_ins(folder)
    file = next(folder.glob("trials/ffn-depth-2--activation*/seed-1/eval/pydocs.json"))
    EvaluationRecord.read(file).replace(linearised=None).write(file)
    board = build_leaderboard(load_experiment(folder))
    assert if_linearised(board, row_of(board, CURVED)) is None
    assert not has_linearised(board)


def test_every_format_shows_it(tmp_path):
    folder = make_experiment(tmp_path / "x")
    mean = statistics.fmean(with_stand_ins(folder))
    write_report(folder)
    report = folder / "report"
    value = json.loads((report / "leaderboard.json").read_text())
    assert next(row for row in value["rows"] if row["label"] == CURVED)["linearised"] == pytest.approx(mean)
    with (report / "leaderboard.csv").open() as file:
        line = next(line for line in csv.DictReader(file) if line["label"] == CURVED)
    assert float(line[TITLE]) == pytest.approx(mean)
    for name in ("leaderboard.md", "leaderboard.html"):
        text = (report / name).read_text()
        assert TITLE in text
        assert f"{100 * mean:.2f}" in text
    html = (report / "leaderboard.html").read_text()
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", re.search(r"<table.*?</table>", html, re.DOTALL)[0], re.DOTALL)
    assert len({len(re.findall(r"<t[hd][ >]", row)) for row in rows}) == 1


def test_without_stand_ins_there_is_no_column(tmp_path):
    folder = make_experiment(tmp_path / "x")
    write_report(folder)
    assert TITLE not in (folder / "report" / "leaderboard.md").read_text()
    assert TITLE not in (folder / "report" / "leaderboard.html").read_text()
