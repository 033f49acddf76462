import csv
import io
import json

import pytest
from rich.console import Console

from eval.report import format as fmt
from eval.report import write_report
from eval.report.formats import console
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from tests.eval.report.factory import Plan, make_experiment

FILES = ("leaderboard.md", "leaderboard.csv", "leaderboard.json", "leaderboard.html")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = make_experiment(tmp_path_factory.mktemp("formats") / "small", Plan(datasets=("pydocs", "scifact")))
    write_report(folder)
    return folder


def test_every_format_is_written(folder):
    written = {path.name for path in (folder / "report").iterdir()}
    assert set(FILES) <= written
    assert (folder / "report/figures/forest.svg").read_bytes().startswith(b"<?xml")
    assert (folder / "report/figures/forest.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_results_give_the_same_bytes(folder):
    report = folder / "report"
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    write_report(folder)
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


def test_json_holds_the_numbers_as_computed(folder):
    value = json.loads((folder / "report/leaderboard.json").read_text())
    board = build_leaderboard(load_experiment(folder))
    assert value["schema_version"] == 1
    assert [row["label"] for row in value["rows"]] == [row.label for row in board.rows]
    for stored, row in zip(value["rows"], board.rows, strict=True):
        assert stored["mean"]["nDCG@10"] == row.mean("nDCG@10")
        if row.verdict:
            assert stored["verdict"]["difference"] == row.verdict.difference
            assert stored["verdict"]["word"] == row.verdict.word


def test_csv_holds_the_numbers_as_computed(folder):
    lines = list(csv.DictReader(io.StringIO((folder / "report/leaderboard.csv").read_text())))
    board = build_leaderboard(load_experiment(folder))
    assert [line["label"] for line in lines] == [row.label for row in (*board.rows, *board.references)]
    for line, row in zip(lines, board.rows, strict=False):
        assert float(line["nDCG@10"]) == row.mean("nDCG@10")
        assert float(line["nDCG@10 scifact"]) == row.mean("nDCG@10", "scifact")
        assert int(line["parameters"]) == row.costs.parameters


def test_the_terminal_table_fits_80_columns_and_names_the_page(folder, monkeypatch):
    text = io.StringIO()
    write_report(folder, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    assert lines[-1] == str(folder / "report/leaderboard.html")
    assert max(len(line) for line in lines[:-1]) <= 80
    assert not any("…" in line for line in lines)
    assert "residual" in text.getvalue()
    assert "bm25" in text.getvalue()


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("linear", ["linear"]),
        ('ffn(activation="identity")', ["ffn(activation=", ' "identity")']),
        ('residual(inner=glu(activation="silu"))', ["residual(inner=glu(", ' activation="silu"))']),
        ("quickstart: upscaled(residual=true)", ["quickstart: ", " upscaled(", " residual=true)"]),
        ("sentence-transformers/all-MiniLM-L6-v2", ["sentence-", " transformers/", " all-MiniLM-L6-v2"]),
    ],
)
def test_long_names_are_broken_where_their_parts_end(label, lines):
    wrapped = console.wrapped(label, 20)
    assert wrapped.split("\n") == lines
    assert max(len(line.rstrip()) for line in lines) <= 20
    assert wrapped.replace("\n ", "") == label


def test_the_terminal_obeys_nothing_that_stands_in_a_result_file(tmp_path):
    plan = Plan(effects={"linear": 0.0, "evil\x1b[31m[bold]\u202e": 0.0}, failed={("linear", 1): "\x1b]0;gone\x07"})
    text = io.StringIO()
    write_report(make_experiment(tmp_path / "x", plan), Console(file=text, width=80))
    assert "\x1b" not in text.getvalue()
    assert "\u202e" not in text.getvalue()
    assert "[bold]" in text.getvalue()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (fmt.points(0.61234), "61.23"),
        (fmt.points(-0.001), "\u22120.10"),
        (fmt.difference(0.013), "+1.30"),
        (fmt.difference(-0.00001), "0.00"),
        (fmt.difference(-0.013), "\u22121.30"),
        (fmt.interval(-0.007, 0.019), "[\u22120.70, +1.90]"),
        (fmt.interval(-24.04, 0.97), "[\u2212100.00, +97.00]"),
        (fmt.listed(["a"]), "a"),
        (fmt.listed(["a", "b"]), "a and b"),
        (fmt.listed(list("abcde")), "a, b, c, d and e"),
        (fmt.listed(list("abcdef")), "a, b, c, d and 2 more"),
        (fmt.rough(0.0083), "0.8"),
        (fmt.rough(0.0003), "0.03"),
        (fmt.count(4816896), "4,816,896"),
        (fmt.short_count(128), "128"),
        (fmt.short_count(49152), "49.2k"),
        (fmt.short_count(196608), "197k"),
        (fmt.short_count(4816896), "4.82M"),
        (fmt.ratio(2.14), "2.1x"),
        (fmt.chance(0.9999), ">99%"),
        (fmt.chance(0.0001), "<1%"),
        (fmt.chance(0.526), "53%"),
        (fmt.seconds(8.13), "8.1 s"),
        (fmt.seconds(59.97), "1 min 0 s"),
        (fmt.seconds(200), "3 min 20 s"),
        (fmt.seconds(7500), "2 h 5 min"),
        (fmt.bytes_text(512), "512 B"),
        (fmt.bytes_text(1_234_567), "1.2 MB"),
        (fmt.mean_and_spread(0.5, None), "50.00"),
        (fmt.mean_and_spread(0.5, 0.001), "50.00 ± 0.10"),
    ],
)
def test_numbers_are_written_one_way(written, expected):
    assert written == expected
