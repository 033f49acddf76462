"""What each form takes off each head: verdicts, sentences, figure and data, from files with known losses."""

import csv
import io
import re

import numpy as np
import pytest
from scipy import stats

from eval.report import write_report
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.report.why.losses import forms_of, largest_loss, loss_sentences, loss_summary, losses_by_trial
from eval.report.why.predict import predictions
from eval.verdicts import Scores, judge
from experiment.disk.records import EvaluationRecord
from tests.eval.report.factory import Plan, make_experiment

EFFECTS = {"linear": 0.0, "ffn(depth=2)": 0.0, "ffn(depth=3)": 0.0}
FORMS = {"int8": (132, 0.0), "fde": (40960, 0.0), "centred-fde": (40960, 0.0), "centred-int8": (132, 0.0)}


def make_folder(path, losses, effects=EFFECTS, **plan):
    """An experiment in which a form takes ``losses[form, variant]`` off each score, give or take .02."""
    folder = make_experiment(path, Plan(effects=effects, queries=200, storage=FORMS, **plan))
    generator = np.random.default_rng(0)
    for file in sorted(folder.glob("trials/*/*/eval/*.json")):
        record, storage = EvaluationRecord.read(file), {}
        label = next(label for label in effects if file.parents[2].name.startswith(slug_start(label)))
        for form, entry in record.storage.items():
            loss = losses.get((form, label), 0.01)
            changed = {q: s - loss + 0.02 * generator.standard_normal() for q, s in entry.per_query.items()}
            mean = float(np.mean(list(changed.values())))
            storage[form] = entry.replace(per_query=changed, measures=dict.fromkeys(entry.measures, mean), recall=0.75)
        record.replace(storage=storage).write(file)
    return folder


def slug_start(label):
    return "".join(c if c.isalnum() else "-" for c in label).strip("-") + "-"


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """The three-layer head loses 30 points to encodings, where the others lose 5, and 2 less to int8."""
    losses = {("fde", "linear"): 0.05, ("fde", "ffn(depth=2)"): 0.05, ("fde", "ffn(depth=3)"): 0.3}
    losses |= {("int8", label): 0.03 for label in EFFECTS} | {("int8", "ffn(depth=3)"): 0.01}
    return make_folder(tmp_path_factory.mktemp("broken") / "x", losses)


def board_of(folder):
    return build_leaderboard(load_experiment(folder))


def test_losses_are_judged_as_scores_are_and_corrected_for_all_forms(broken):
    board = board_of(broken)
    tables = {}
    for trial in board.experiment.trials:
        record = trial.evaluations["pydocs"].record
        change = [record.storage["fde"].per_query[q] - s for q, s in record.measures["nDCG@10"].items()]
        tables.setdefault(trial.label, []).append(change)
    starts = {row.label: row.stored[0].changes.start_group for row in board.rows}
    scores = {label: Scores((0, 1, 2), (np.array(rows),), starts[label]) for label, rows in tables.items()}
    assert board.losses["fde"] == judge(scores, "linear", families=4)
    once = judge(scores, "linear")["ffn(depth=2)"].new_queries
    assert board.losses["fde"]["ffn(depth=2)"].new_queries.adjusted_p == pytest.approx(min(1, 4 * once.adjusted_p))
    assert board.losses["fde"]["ffn(depth=3)"].difference == pytest.approx(-0.25, abs=0.01)
    words = {form: {label: one.word for label, one in found.items()} for form, found in board.losses.items()}
    assert words["fde"] == {"ffn(depth=2)": "no difference shown", "ffn(depth=3)": "worse"}
    assert words["int8"] == {"ffn(depth=2)": "no difference shown", "ffn(depth=3)": "better"}


def test_the_sentences_name_the_heads_that_differ_from_the_baseline(broken):
    board = board_of(broken)
    fde, int8, none = loss_sentences(board)
    number = r"[\u2212+][0-9.]+"
    for said, start, end in (
        (fde, r"fde \(linear: \u22124\.9. points\): ffn\(depth=3\) \(\u221225", "loses more than linear."),
        (int8, r"int8 \(linear: \u2212[23]\... points\): ffn\(depth=3\) \(\+[12]", "loses less than linear."),
    ):
        assert re.fullmatch(rf"{start}\... \[{number}, {number}\]\) {re.escape(end)}", said)
    assert none == "No head is distinguishable from linear in what it loses with centred-fde, centred-int8."
    (short,) = loss_summary(board)
    assert re.fullmatch(r"ffn\(depth=3\) loses more than linear with fde \(\u221225\... points\)\.", short)


def test_what_a_form_takes_off_is_correlated_with_the_score_as_diagnostics_are(broken):
    board = board_of(broken)
    found = {one.part: one for one in predictions(board, [losses_by_trial(board)])}
    assert set(found) == set(FORMS)
    changes, scores = [], []
    for trial in board.experiment.trials:
        record = trial.evaluations["pydocs"].record
        exact = np.mean(list(record.measures["nDCG@10"].values()))
        changes.append(np.mean(list(record.storage["fde"].per_query.values())) - exact)
        scores.append(exact)
    assert (found["fde"].trials, found["fde"].heads) == (9, 2)  # the factory knows heads by their names
    assert found["fde"].score.value == pytest.approx(stats.spearmanr(changes, scores).statistic)
    report = write_report(broken).parent
    line = next(one for one in csv.DictReader((report / "figures/why-prediction.csv").open()) if one["part"] == "fde")
    assert float(line["score"]) == pytest.approx(found["fde"].score.value)
    assert '<th scope="row">Change of nDCG@10 with</th><td>centred-int8</td>' in (report / "why.html").read_text()


def test_the_form_that_takes_off_most_is_named_also_with_one_seed(broken, tmp_path):
    assert re.fullmatch(
        r"fde takes off most: from \u2212[45]\... points for (linear|ffn\(depth=2\)) to \u2212[23]\d\... points for "
        r"ffn\(depth=3\)\.",
        largest_loss(board_of(broken)),
    )
    one = board_of(make_folder(tmp_path / "x", {("int8", "linear"): 0.3}, effects={"linear": 0.0}, seeds=(0,)))
    assert re.fullmatch(r"int8 takes off most: \u2212[23]\d\... points\.", largest_loss(one))
    assert largest_loss(one) in (write_report(one.experiment.path).parent / "why.html").read_text()


def test_two_seeds_are_too_few_to_compare(tmp_path):
    board = board_of(make_folder(tmp_path / "x", {("fde", "ffn(depth=3)"): 0.3}, seeds=(0, 1)))
    assert loss_sentences(board) == [
        "Too few seeds to compare what heads lose with fde, centred-fde, int8, centred-int8."
    ]
    assert loss_summary(board) == []


def test_the_page_has_the_figure_the_sentences_and_the_data(broken):
    report = write_report(broken).parent
    page = (report / "why.html").read_text()
    assert "What compression and fast search take off each head" in page
    assert "fde (linear: \u22124.9" in page
    assert page.count("loses more than linear") == 2  # in short, and at the figure
    assert 'href="why.html"' in (report / "leaderboard.html").read_text()
    lines = list(csv.DictReader(io.StringIO((report / "figures/why-losses.csv").read_text())))
    assert len(lines) == 3 * 4
    line = next(one for one in lines if (one["form"], one["variant"]) == ("fde", "ffn(depth=3)"))
    assert (line["bytes_per_vector"], line["index_bytes"], line["recall"], line["word"]) == (
        *("40960.0", "40960000"),
        *("0.75", "worse"),
    )
    assert float(line["change"]) == pytest.approx(-0.3, abs=0.005)
    assert float(line["low"]) < float(line["change"]) < float(line["high"])
    assert float(line["against_baseline"]) == pytest.approx(-0.25, abs=0.01)
    svg = (report / "figures/why-losses.svg").read_text()
    assert svg.count("<text") == 4 + 3 + 12
    assert "| linear | fde | 40960 | 41.0 MB |" in (report / "leaderboard.md").read_text()
    assert "| 75% |" in (report / "leaderboard.md").read_text()


def test_centred_forms_follow_those_that_are_not(broken):
    assert forms_of(board_of(broken)) == ["fde", "centred-fde", "int8", "centred-int8"]


def test_every_cell_of_sixty_variants_is_drawn_and_named(tmp_path):
    effects = {f"ffn(depth={depth})": 0.0 for depth in range(2, 62)}
    folder = make_experiment(tmp_path / "x", Plan(effects=effects, queries=5, storage=FORMS))
    svg = (write_report(folder).parent / "figures/why-losses.svg").read_text()
    assert svg.count("<text") == 4 + 60 + 240
    for label in effects:
        assert f">{label}<" in svg
