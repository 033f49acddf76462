"""The answers at the top of the page, against made-up experiments whose answers are known."""

import pytest

from eval.report.answer import warnings
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.report.why.bands import splits
from eval.report.why.predict import Correlation, Prediction
from eval.report.why.sentences import number, prediction_sentence, sentence
from eval.report.why.short import in_short
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord, ExplainRecord, Finding, Meaning, TrialRecord
from tests.eval.report.factory import Plan, make_experiment

COSINE = Meaning(
    title="Mean pairwise cosine", group="geometry", formula="c", range=(-1.0, 1.0), high="H.", low="L.", source="s",
    alarm="anisotropic", above=0.5,
)  # fmt: skip
RANK = COSINE.replace(title="Effective rank of the head's map", alarm="", above=None)
HEADS = ("linear", "ffn", "glu")


def make(path, cosines, clipped, axes=None, kept=None, effects=(0.0, 0.0, 0.0)):
    """Three heads, with a mean cosine, a share of clipped steps and what an encoding keeps of every score.

    Args:
        path: The folder.
        cosines: The mean cosine of each head, for documents.
        clipped: The share of each head.
        axes: By seed, the point of the axes: seeds 0 to 2 and 3 to 5 become two points with three seeds each.
        kept: The share of its score that each head keeps, by form.
        effects: The true differences.
    """
    plan = Plan(
        effects=dict(zip(HEADS, effects, strict=True)), seeds=range(6 if axes else 3), queries=40,
        storage=dict.fromkeys(kept or {}, (1, 0.0)), references=("backbone",),
    )  # fmt: skip
    folder = make_experiment(path, plan)
    for trial in sorted(folder.glob("trials/*/seed-*")):
        record = TrialRecord.read(trial / "trial.json")
        place, seed = HEADS.index(record.label), record.seed
        point = axes[seed // 3] if axes else {}
        share = clipped[place] * (point.get("max_grad_norm", 1.0) == 1.0)
        record.replace(axes=point, seed=seed % 3, train=record.train.replace(clipped=share)).write(trial / "trial.json")
        findings = {"mean-cosine": {"documents": cosines[place] + 0.01 * (seed // 3), "queries": 0.9}}
        findings["map-rank"] = {"start": 4.0, "middle": 5.0, "end": 2.0 + place}
        write(trial, {"mean-cosine": COSINE, "map-rank": RANK}, findings)
        file = trial / "eval" / "pydocs.json"
        evaluation = EvaluationRecord.read(file)
        stored = {
            form: entry.replace(per_query={q: kept[form][place] * s for q, s in entry.per_query.items()})
            for form, entry in evaluation.storage.items()
            if kept[form][place] is not None
        }
        evaluation.replace(storage=stored).write(file)
    write(
        ExperimentFolder(folder).reference("backbone", 0).path,
        {"mean-cosine": COSINE},
        {"mean-cosine": {"documents": 0.33}},
    )
    return build_leaderboard(load_experiment(folder))


def write(folder, meanings, findings):
    found = {name: Finding(key="0", meaning=meanings[name], values=one, seconds=0.1) for name, one in findings.items()}
    ExplainRecord(dataset="pydocs", findings=found).write(folder / "explain" / "pydocs.json")


def answers(board):
    return dict(in_short(board, splits(board), []))


def test_it_says_which_heads_are_anisotropic_would_break_encodings_and_were_clipped(tmp_path):
    kept = {"fde": (0.9, 0.3, 0.125), "fde rescored": (0.95, 0.8, 0.75), "centred-fde": (0.9, 0.9, 0.85)}
    found = answers(make(tmp_path / "x", (0.1, 0.6, 0.875), (0.25, 0.5, 1.0), kept=kept))
    limit = "Mean pairwise cosine (documents) above 0.5 counts as anisotropic; linear has 0.1, the backbone has 0.33."
    assert found["Anisotropic"] == f"glu (0.875) and ffn (0.6). {limit}"
    assert found["Fixed-dimensional encodings (MUVERA)"] == (
        "fde breaks ffn (30%) and glu (12%): less than half of the exact score is left. centred-fde and fde rescored "
        "break no head: at least 75% of the exact score is left (glu, fde rescored)."
    )
    assert found["Clipping"] == (
        "active, and uneven between heads, from 25% of the steps (linear) to 100% (glu), so that it slowed some more "
        "than others."
    )
    assert found["Where the gain sits"].startswith("no head is shown to gain. The largest difference from linear is ")


def test_it_says_when_nothing_is_amiss(tmp_path):
    found = answers(make(tmp_path / "x", (0.1, 0.2, 0.45), (0.9, 0.95, 1.0), kept={"fde": (0.9, 0.8, 0.75)}))
    assert found["Anisotropic"] == (
        "no head. Mean pairwise cosine (documents) above 0.5 counts as anisotropic; linear has 0.1, glu has 0.45, the "
        "backbone has 0.33."
    )
    assert found["Fixed-dimensional encodings (MUVERA)"] == (
        "fde breaks no head: at least 75% of the exact score is left (glu)."
    )
    assert found["Clipping"] == "active, and about equal for all heads, from 90% of the steps (linear) to 100% (glu)."


def test_heads_whose_encodings_were_not_measured_are_counted(tmp_path):
    found = answers(make(tmp_path / "x", (0.1, 0.2, 0.45), (1, 1, 1), kept={"fde": (0.9, 0.8, None)}))
    assert found["Fixed-dimensional encodings (MUVERA)"] == (
        "fde breaks no head: at least 80% of the exact score is left (ffn). Only 2 of 3 rows of the leaderboard were "
        "measured."
    )


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0.0, 0.0, 0.0), "inactive: no step was clipped."),
        ((1.0, 1.0, 1.0), "active in 100% of the steps of every head."),
    ],
)
def test_clipping_that_is_the_same_for_all_and_encodings_that_were_not_measured(tmp_path, shares, said):
    found = answers(make(tmp_path / "x", (0.1, 0.2, 0.45), shares))
    assert found["Clipping"] == said
    assert found["Fixed-dimensional encodings (MUVERA)"] == "not measured; add fde and centred-fde to eval.searches."


def test_a_head_is_named_once_for_several_points_of_the_axes_and_clipping_is_said_for_each_limit(tmp_path):
    axes = ({"max_grad_norm": 1.0}, {"max_grad_norm": 30.0})
    board = make(tmp_path / "x", (0.1, 0.495, 0.875), (0.5, 1.0, 1.0), axes=axes, kept={"fde": (1.0, 0.9, 0.25)})
    found = answers(board)
    assert found["Anisotropic"].startswith(
        "glu at every setting (0.875 to 0.885) and ffn @ max_grad_norm=30.0 (0.505). Mean"
    )
    assert found["Fixed-dimensional encodings (MUVERA)"].startswith("fde breaks glu at every setting (25%): ")
    assert found["Clipping"] == (
        "with max_grad_norm=1.0, active, and uneven between heads, from 50% of the steps (linear) to 100% (ffn), so "
        "that it slowed some more than others; with max_grad_norm=30.0, inactive: no step was clipped."
    )


def test_uneven_clipping_is_a_warning_within_one_point_of_the_axes_only(tmp_path):
    axes = ({"max_grad_norm": 1.0}, {"max_grad_norm": 30.0})
    even, uneven = (
        make(tmp_path / name, (0, 0, 0), shares, axes=axes) for name, shares in (("x", (1, 1, 1)), ("y", (0.5, 1, 1)))
    )
    assert not any("clipped" in text for text in warnings(even))
    assert any("clipped in 50% to 100% of the steps" in text for text in warnings(uneven))


def test_a_gain_is_one_only_if_it_is_distinguishable(tmp_path):
    found = answers(make(tmp_path / "x", (0, 0, 0), (1, 1, 1), effects=(0.0, 0.1, 0.2)))["Where the gain sits"]
    assert found.startswith("glu gains +")
    assert found.endswith("] points over linear, for new queries too.")


def test_what_training_changes_is_said_for_the_end(tmp_path):
    board = make(tmp_path / "x", (0, 0, 0), (1, 1, 1))
    assert sentence(board, board.explanations["map-rank"]) == (
        "Effective rank of the head's map (end): lowest for linear (2, from 4 at the start), highest for glu (4, "
        "from 4 at the start)."
    )


def prediction(title, part, value, low=None, high=None):
    return Prediction(title, title, part, 24, 8, Correlation(value, low, high), None)


def test_correlations_are_counted_with_those_that_chance_would_give():
    sure = prediction("Uniformity", "documents", -0.8, -0.9, -0.6)
    unsure = [prediction("Hubness", "documents", 0.1, -0.4, 0.5)] * 39
    assert prediction_sentence([sure, *unsure]) == (
        "Of 40 rank correlations with the score, 1 has an interval that excludes 0, where about 2 would by chance: "
        "uniformity, documents (\u22120.8)."
    )
    assert prediction_sentence(unsure).startswith("no. None of 39 rank correlations")
    assert prediction_sentence([prediction("Change of nDCG@10 with", "int8", 0.5)]) == (
        "8 heads are too few for intervals. The strongest rank correlations with the score are with change of nDCG@10 "
        "with int8 (0.5)."
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-17, "0"),
        (-0.5, "\u22120.5"),
        (999.7, "1,000"),
        (100.4, "100"),
        (-12345.6, "\u221212,346"),
        (0.12345, "0.123"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text
