"""Which diagnostics are computed, when, and what the report makes of them."""

import csv
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from eval.__main__ import main
from eval.evaluate import evaluate_experiment
from eval.explain import list_diagnostics
from eval.report.write import write_report
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.disk.records import ExplainRecord
from projheads.errors import ProjheadsError

OWN = """
from eval.explain import register_diagnostic

@register_diagnostic(
    "first-number", title="First number", group="mine", formula="x_1", range=(-1.0, 1.0), high="High.", low="Low.",
    source="nobody", alarm="odd", above=-2.0,
)
def first_number(given):
    return {"documents": float(given.documents.vectors[0, 0])}
"""


def evaluate(config):
    with Progress() as progress:
        evaluate_experiment(config, progress)


def explained(miniature, slug="linear", seed=0):
    return ExplainRecord.read(miniature.folder.trial(slug, seed).explain_json("odd"))


def without_time(record):
    return {name: one.replace(seconds=0.0) for name, one in record.findings.items()}


def test_nothing_is_computed_unless_asked(miniature):
    evaluate(miniature.config())
    assert not miniature.folder.trial("linear", 0).explain_json("odd").exists()
    page = write_report(miniature.folder.path)
    assert not page.with_name("why.html").exists()


def test_diagnostics_are_added_to_finished_evaluations_and_computed_once(miniature):
    evaluate(miniature.config())
    run = miniature.folder.trial("linear", 0).eval_run("odd")
    before = run.stat().st_mtime_ns
    evaluate(miniature.config("eval.explain=true"))
    assert run.stat().st_mtime_ns == before
    first = explained(miniature)
    assert list(first.findings) == [one.name for one in list_diagnostics() if not (one.switch or one.file)]
    path = miniature.folder.trial("linear", 0).explain_json("odd")
    written = path.read_bytes()
    evaluate(miniature.config("eval.explain=true"))
    assert path.read_bytes() == written
    path.unlink()
    evaluate(miniature.config("eval.explain=true"))
    assert without_time(explained(miniature)) == without_time(first)


def test_the_mean_cosine_is_that_of_all_pairs(miniature):
    evaluate(miniature.config("eval.explain=true"))
    from experiment.collections import open_collection
    from tests.eval.conftest import load_fake

    collection = open_collection(str(miniature.collection), split="test")
    model = load_fake(miniature.folder.trial("linear", 0).model)
    rows = []
    for document in collection.corpus.values():
        tokens = model.tokenize([document.passage], is_query=False)
        states = model.token_states(tokens)[model.scoring_mask(tokens, is_query=False)]
        embedded = model.head(states.half().float()).detach().numpy().astype(np.float64)
        rows += list(embedded / np.linalg.norm(embedded, axis=1, keepdims=True))
    expected = np.mean([a @ b for a, b in itertools.combinations(rows, 2)])
    assert explained(miniature).findings["mean-cosine"].values["documents"] == pytest.approx(expected, abs=1e-4)


def test_a_third_party_registers_one_and_the_page_shows_it(miniature, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    evaluate(miniature.config(f"eval.explain={{files: [{file}]}}"))
    value = explained(miniature).findings["first-number"].values["documents"]
    page = write_report(miniature.folder.path).with_name("why.html").read_text()
    assert "First number" in page
    assert "Odd: " in page
    with (miniature.folder.report / "figures" / "why-first-number.csv").open() as lines:
        rows = list(csv.reader(lines))
    assert rows[0] == ["variant", "seed", "dataset", "part", "first-number"]
    assert ["linear", "0", "odd", "documents", repr(value)] in rows
    # The record says what it is, so that the report needs neither the file nor torch.
    about = json.loads(miniature.folder.trial("linear", 0).explain_json("odd").read_text())
    assert about["findings"]["first-number"]["meaning"]["source"] == "nobody"


def run_eval(miniature, file):
    return run_command(main, [str(miniature.yaml), f"eval.explain={{files: [{file}]}}"])


def test_the_file_of_the_guide_works_with_the_command_and_a_changed_file_is_computed_again(
    miniature, tmp_path, monkeypatch, capsys
):
    """As the guide has it: a relative path, a single option."""
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "why.md").read_text()
    code = re.search(r"<!-- file: mine.py -->\n```python\n(.*?)```", guide, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(code)
    assert run_eval(miniature, "mine.py") == 0
    before = explained(miniature).findings
    assert -1 <= before["first-token"].values["documents"] <= 1
    assert "Similarity to the first token" in (miniature.folder.report / "why.html").read_text()
    Path("mine.py").write_text(code.replace('"documents":', '"documents": 0 *').replace("first-token", "second"))
    assert run_eval(miniature, "mine.py") == 0
    after = explained(miniature).findings
    assert after["second"].values == {"documents": 0.0}
    assert {name: one for name, one in after.items() if name != "second"} == before
    capsys.readouterr()
    assert run_eval(miniature, "mine.py") == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (mine.py line 8)"),
        ('{"documents": float("nan")}', "ValueError: the value of documents is nan; leave it out"),
        ('{"documents": "high"}', "ValueError: could not convert string to float: 'high'"),
        ("[1.0]", "AttributeError: 'list' object has no attribute 'items'"),
        ("{1: 2.0}", "ValidationError: 1 validation error for Finding"),
    ],
)
def test_a_third_partys_fault_is_one_line(miniature, tmp_path, capsys, returned, said):
    file = tmp_path / "mine.py"
    file.write_text(OWN.lstrip().replace('{"documents": float(given.documents.vectors[0, 0])}', returned))
    assert run_eval(miniature, file) == 2
    shown = "".join(capsys.readouterr())
    assert f'the diagnostic "first-number" of eval.explain.files: {said}' in shown
    assert "Traceback" not in shown


def test_a_name_that_is_taken_is_one_line(miniature, tmp_path, capsys):
    file, other = tmp_path / "mine.py", tmp_path / "other.py"
    file.write_text(OWN.replace("first-number", "mean-cosine"))
    assert run_eval(miniature, file) == 2
    assert 'the diagnostic "mean-cosine" is registered already; choose another name' in capsys.readouterr().err
    file.write_text(OWN)
    other.write_text(f"# The same\n{OWN}")
    assert run_eval(miniature, f"{file}, {other}") == 2
    assert 'two files register the diagnostic "first-number"; rename one of them' in capsys.readouterr().err


def test_numbers_of_numpy_are_numbers(miniature, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import numpy as np\n" + OWN.replace("float(given", "np.float32(given"))
    assert run_eval(miniature, file) == 0
    assert isinstance(explained(miniature).findings["first-number"].values["documents"], float)


def test_a_file_that_cannot_be_used_is_named(miniature, tmp_path):
    with pytest.raises(ProjheadsError, match=r"eval\.explain\.files: .*gone\.py: no such Python file"):
        evaluate(miniature.config(f"eval.explain={{files: [{tmp_path / 'gone.py'}]}}"))
    broken = tmp_path / "broken.py"
    for content, error in (("1 / 0", "ZeroDivisionError"), ("import sys; sys.exit(0)", "SystemExit")):
        broken.write_text(content)
        with pytest.raises(ProjheadsError, match=rf"eval\.explain\.files: .*broken\.py: {error}"):
            evaluate(miniature.config(f"eval.explain={{files: [{broken}]}}"))
