"""One entry adds a column, a figure or a format, and every place that lists them finds it."""

import csv
import importlib
import io
import json
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from eval.report import columns, write_report
from eval.report.columns import EVERYWHERE, Column, board_columns
from eval.report.figures import FIGURES, Drawing
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.report.write import FORMATS, Format
from tests.eval.report.factory import Plan, make_experiment

DOCS = Path(__file__).parents[3] / "docs" / "generate"
MADE_UP = Column(
    "label_length",
    "letters",
    "How many letters the label has.",
    lambda cell: len(cell.row.label) if cell.row.kind != "reference" else None,
    EVERYWHERE,
    write=lambda value: f"{value} abc",
)


@pytest.fixture
def folder(tmp_path):
    return make_experiment(tmp_path / "x", Plan(effects={"linear": 0.0, "ffn(depth=2)": 0.0}, queries=10))


def test_a_made_up_column_is_in_every_form_it_names(folder, monkeypatch):
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, MADE_UP))
    printed = io.StringIO()
    report = write_report(folder, Console(file=printed, width=100)).parent
    for name in ("leaderboard.html", "leaderboard.md", "leaderboard.tex"):
        text = (report / name).read_text()
        assert text.count("letters") >= 1
        assert (text.count("6 abc"), text.count("12 abc")) == (1, 1)
    assert 'title="How many letters the label has."' in (report / "leaderboard.html").read_text()
    assert "letters" in printed.getvalue()
    assert "12 abc" in printed.getvalue()
    lines = csv.DictReader(io.StringIO((report / "leaderboard.csv").read_text()))
    assert {line["label"]: line["label_length"] for line in lines} == {
        "linear": "6",
        "ffn(depth=2)": "12",
        "bm25": "",
        "backbone": "",
        "untrained": "",
    }
    value = json.loads((report / "leaderboard.json").read_text())
    assert value["columns"]["label_length"] == "How many letters the label has."
    assert {row["label"]: row["cells"]["label_length"] for row in value["rows"]} == {"linear": 6, "ffn(depth=2)": 12}


def test_a_made_up_column_is_in_the_guide(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.delitem(sys.modules, "column_table", raising=False)
    guide = importlib.import_module("column_table")
    monkeypatch.setattr(guide, "COLUMNS", (*columns.COLUMNS, MADE_UP))
    assert "| letters |  | How many letters the label has. |" in guide.column_tables()


def test_a_made_up_figure_and_format_are_written(folder, monkeypatch):
    monkeypatch.setitem(FIGURES, "made-up", Drawing("A made-up figure", "It is empty.", lambda board: Figure()))
    monkeypatch.setitem(FORMATS, "text", Format("board.txt", lambda board, drawn: f"{board.baseline} {sorted(drawn)}"))
    report = write_report(folder).parent
    assert (report / "figures/made-up.svg").exists()
    assert "It is empty." in (report / "leaderboard.html").read_text()
    assert (report / "board.txt").read_text().startswith("linear [")
    assert "'made-up'" in (report / "board.txt").read_text()


def test_names_in_a_data_file_are_distinct_and_every_form_is_known(tmp_path):
    plan = Plan(datasets=("pydocs", "scifact"), queries=5, storage={"fp16": (256, 0.0), "int8": (132, 0.0)})
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", plan)))
    for form in (*FORMATS, "console"):
        names = [column.name for column in board_columns(board, form)]
        assert names[0] == "label"
        assert len(set(names)) == len(names)
    assert {form for column in columns.COLUMNS for form in column.forms} == {*FORMATS, "console"}
