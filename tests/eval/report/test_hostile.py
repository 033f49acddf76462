import csv
import io
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest

from eval.__main__ import main
from eval.report import drawing, write_report
from eval.report.figures import FIGURES
from eval.report.formats import latex, markdown
from eval.report.formats.data_files import csv_text
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from tests.eval.report.factory import HOSTILE, Plan, make_experiment

LABEL = 'ffn(activation="$x_1$ \\input{a} <b>&amp; **x** | \u4e2d")'


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    plan = Plan(
        effects={"linear": 0.0, LABEL: 0.2, "other": 0.0},
        failed={("other", 2): HOSTILE},
        datasets=("pydocs", "scifact"),
        description=HOSTILE,
    )
    return write_report(make_experiment(tmp_path_factory.mktemp("hostile") / "x", plan)).parent


def test_markdown_keeps_its_table_and_obeys_no_markup(report):
    lines = (report / "leaderboard.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    assert set(widths[:8]) == {widths[0]}
    text = "\n".join(lines)
    assert "<script>" not in text
    assert "<b>" not in text
    assert r"\*\*bold\*\*" in text
    assert r"\[a\](b)" in text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        ("*a* _b_ `c`", r"\*a\* \_b\_ \`c\`"),
        ("<i>&", "&lt;i&gt;&amp;"),
        ("a\nb", "a b"),
        ("\\", r"\\"),
        ("a\x1b[2Jb\u202ec\x00", "a\ufffd\\[2Jb\ufffdc\ufffd"),
    ],
)
def test_markdown_escapes(text, written):
    assert markdown.escape(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50% & $x_1$", r"50\% \& \$x\_1\$"),
        (r"\input{a}", r"\textbackslash{}input\{a\}"),
        ("~^#", r"\textasciitilde{}\textasciicircum{}\#"),
        ("é ± \u2212", r"é $\pm$ $-$"),
        ("\u4e2d\u202e\x00", "???"),
        ("a\n\nb", "a b"),
    ],
)
def test_latex_escapes(text, written):
    assert latex.escape(text) == written


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(report, tmp_path):
    table = (report / "leaderboard.tex").read_text()
    document = (
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}"
        f"\\begin{{document}}\n{table}\\end{{document}}\n"
    )
    (tmp_path / "a.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_latex_says_what_it_needs_and_rules_only_by_booktabs(report):
    text = (report / "leaderboard.tex").read_text()
    assert r"\usepackage{booktabs}" in text.splitlines()[0]
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert r"\hline" not in text
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1


def test_csv_and_json_give_the_text_back_as_it_was(report):
    lines = list(csv.DictReader(io.StringIO((report / "leaderboard.csv").read_text())))
    assert LABEL in [line["label"] for line in lines]
    value = json.loads((report / "leaderboard.json").read_text())
    assert LABEL in [row["label"] for row in value["rows"]]
    assert value["description"] == HOSTILE
    assert [row["failures"] for row in value["rows"] if row["failures"]] == [[{"seed": 2, "reason": HOSTILE}]]


def test_figures_are_well_formed_and_show_the_label_as_text(report):
    for path in sorted((report / "figures").glob("*.svg")):
        root = ET.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    root = ET.parse(report / "figures/forest.svg").getroot()
    assert LABEL in {"".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_the_page_holds_no_markup_of_the_hostile_text(report):
    text = (report / "leaderboard.html").read_text()
    assert "<script>document" not in text
    assert "<img" not in text
    assert text.count("<script>") == 1
    assert "&lt;script&gt;document" in text


def test_letters_that_no_font_has_are_written_by_their_numbers_and_no_box_is_drawn(monkeypatch):
    monkeypatch.setattr(drawing, "glyphs", lambda: frozenset(map(ord, "abc\N{HEBREW LETTER ALEF}")))
    assert drawing.drawable("a\u4e2d \N{HEBREW LETTER ALEF}") == "a\\u4e2d \N{HEBREW LETTER ALEF}"


def test_figures_warn_of_no_missing_letter(tmp_path, recwarn):
    effects = {"linear": 0.0, "ffn(\u4e2d\u6587)": 0.1, "\u05e9\u05dc\u05d5\u05dd": 0.0}
    report = write_report(make_experiment(tmp_path / "x", Plan(effects=effects, queries=5))).parent
    assert not [str(one.message) for one in recwarn if "missing from font" in str(one.message)]
    assert "ffn(\u4e2d\u6587)" in (report / "figures/forest.svg").read_text()


def test_a_data_set_of_one_query_is_said_and_not_an_error(tmp_path, capsys):
    main(["report", str(make_experiment(tmp_path / "x", Plan(queries=1)))])
    assert "one judged query, which says nothing about how much of a score is chance" in capsys.readouterr().out
    assert not (tmp_path / "x/report").exists()


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@a", "=cmd|' /C calc'!A0"])
def test_a_spreadsheet_computes_no_label(tmp_path, start):
    plan = Plan(effects={"linear": 0.0, start: -0.2}, queries=20, seeds=(0, 1, 2))
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", plan)))
    cells = [cell for line in csv.reader(io.StringIO(csv_text(board))) for cell in line]
    assert f"'{start}" in cells
    computed = [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert all(math.isfinite(float(cell)) for cell in computed)
    assert computed, "negative numbers stay numbers"


@pytest.mark.parametrize("odd", ["\x01\x1b[31m", "\u202e", "\ufffe"])
def test_figures_are_well_formed_whatever_a_label_holds(tmp_path, odd):
    plan = Plan(effects={f"b{odd}c": 0.0, f"d{odd}e": 0.1}, queries=20)
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", plan)))
    shown = {"\x01\x1b[31m": "\ufffd\ufffd[31m"}.get(odd, "\ufffd")
    with drawing.style():
        svg = drawing.svg_bytes(FIGURES["forest"].draw(board))
        assert drawing.png_bytes(FIGURES["seeds"].draw(board))
    texts = {"".join(one.itertext()) for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert f"d{shown}e" in texts


OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
CONTROLS = "evil\x02\x01\x1b[31m\x9b\u202e\u2067\uffff \\"


def test_no_format_holds_a_character_that_would_be_obeyed(tmp_path):
    """Every file of the report, whatever its format: SVG stays XML, and JSON gives the text back as it was."""
    effects = {"linear": 0.0, CONTROLS: 0.2, "=1+1": 0.1, " @SUM(A1)": 0.1}
    plan = Plan(effects=effects, failed={(CONTROLS, 1): CONTROLS}, datasets=("pydocs", "-bad\x1b\u202e"), queries=8)
    report = write_report(make_experiment(tmp_path / "x", plan)).parent
    texts = {path: path.read_text("utf-8") for path in report.rglob("*") if path.suffix not in ("", ".png")}
    assert {path.suffix for path in texts} == {".md", ".csv", ".json", ".tex", ".html", ".svg"}
    assert not [path.name for path, text in texts.items() if OBEYED.search(text)]
    for path in texts:
        if path.suffix == ".svg":
            ET.fromstring(texts[path])
    rows = json.loads(texts[report / "leaderboard.json"])["rows"]
    assert {row["label"] for row in rows} == effects.keys()
    cells = [cell for line in csv.reader(io.StringIO(texts[report / "leaderboard.csv"])) for cell in line]
    assert not [cell for cell in cells if cell.strip()[:1] in tuple("=+-@") and not _is_number(cell)]
    assert {"'=1+1", "' @SUM(A1)"} <= set(cells)


def _is_number(cell):
    return re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell) is not None
