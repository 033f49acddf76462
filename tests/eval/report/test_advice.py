"""What the page says a reader can do."""

import re
from dataclasses import replace

from eval.report import write_report
from eval.report.advice import advice, inference_cost
from eval.report.answer import answer, warnings
from eval.report.figures import shown_rows
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from experiment.disk.layout import ExperimentFolder
from tests.eval.report.factory import Plan, make_experiment
from tests.eval.report.test_scopes import edit

CLEAR = Plan(effects={"linear": 0.0, "a": 0.2, "b": -0.1}, seeds=(0, 1, 2, 3, 4), seed_sd=0.0, queries=200)
EQUAL = replace(CLEAR, effects={"linear": 0.0, "a": 0.0}, seed_sd=0.012)


def board_of(path, plan):
    return build_leaderboard(load_experiment(make_experiment(path, plan)))


def test_a_winner_is_the_head_to_use_and_otherwise_the_baseline(tmp_path):
    assert dict(advice(board_of(tmp_path / "x", CLEAR)))["Head to use"] == "Use a: it is better, also for new queries."
    said = dict(advice(board_of(tmp_path / "y", EQUAL)))
    assert said["Head to use"] == "Keep linear: no other head was shown to be better."
    assert re.search(
        r"1\.0 point .* takes \d+ seeds \(\d+ more of each head, about [\d.]+ (s|min|h)", said["To learn more"]
    )


def at_two_widths(path, gain):
    """A head and the baseline at two widths; ``gain`` is what the head gains at the narrower one."""
    rows = {"w": ("linear", 4), "x": ("a", 4), "y": ("linear", 8), "z": ("a", 8)}
    effects = {"w": 0.0, "x": gain, "y": 0.3, "z": 0.3}
    folder = make_experiment(path, replace(CLEAR, effects=effects, query_sd=0.0, noise_sd=0.01))
    for trial in ExperimentFolder(folder).trials():
        record = trial.read_trial()
        label, width = rows[record.label]
        axes = {"heads.out_features": width}
        record.replace(label=label, axes=axes, is_baseline=label == "linear").write(trial.trial_json)
    return dict(advice(build_leaderboard(load_experiment(folder))))


def test_heads_at_several_settings_are_advised_on_at_each(tmp_path):
    said = at_two_widths(tmp_path / "x", 0.0)
    text = (
        "Keep linear: no other head was shown to be better at the same settings. It scores highest at out_features=8 ("
    )
    assert said["Head to use"].startswith(text)
    assert re.fullmatch(r"[\d,]+ multiply-adds per token\.", said["Its cost"])
    said = at_two_widths(tmp_path / "y", 0.2)
    assert re.fullmatch(
        r"a @ out_features=4: it is better than linear at the same settings, also for new queries\. "
        r"Of all settings, (a|linear) @ out_features=8 scores highest\.",
        said["Head to use"],
    )
    assert said["Its cost"].endswith(" linear @ out_features=4.")


def test_a_question_that_is_answered_needs_a_finer_resolution_and_no_further_seeds(tmp_path):
    said = []
    for name, resolution in (("wide", 20.0), ("fine", 0.01)):
        folder = make_experiment(tmp_path / name, replace(EQUAL, queries=400))
        edit(folder, question={"resolution": resolution, "seeds": [5, 5]})
        said.append(dict(advice(build_leaderboard(load_experiment(folder))))["To learn more"])
    assert said[0].startswith("Every head is decided at a resolution of 20.0 points on these queries.")
    assert said[0].endswith("with question.resolution=10 and more question.seeds.")
    assert said[1].endswith("rerun python -m answer with a larger range of question.seeds.")


def test_an_equivalence_whose_interval_reaches_further_is_explained(tmp_path):
    folder = make_experiment(tmp_path / "x", replace(EQUAL, queries=400))
    said, reach = [], 50.0
    for share in (1.0, 0.97, 1.5):  # far away, between the 90% and the 95% interval, and beyond both
        edit(folder, question={"resolution": reach * share, "seeds": [5, 5]})
        board = build_leaderboard(load_experiment(folder))
        (scope,) = [row.verdict.these_queries for row in board.rows if row.verdict is not None]
        assert scope.word == "equivalent"
        reach = 100 * max(-scope.low, scope.high)
        said.append(any("a: equivalent although the 95% interval reaches beyond" in line for line in warnings(board)))
    assert said == [False, True, False]


def test_a_head_that_folds_costs_one_matrix(tmp_path):
    board = board_of(tmp_path / "x", CLEAR)
    for row in board.rows:
        trial = next(one.record for one in board.experiment.trials if one.label == row.label)
        matrix = trial.in_features * trial.out_features
        assert inference_cost(row) == (min(matrix, trial.multiply_adds) if trial.folds else trial.multiply_adds)


def test_no_larger_gain_is_promised_than_is_left(tmp_path):
    board = board_of(tmp_path / "x", replace(EQUAL, seeds=(0, 1, 2), seed_sd=0.3))
    room = 1 - board.baseline_row.mean("nDCG@10")
    assert min(row.verdict.smallest_shown_here for row in board.rows if row.verdict) > room
    assert f"no improvement could have been detected: only {100 * room:.1f} points are left to gain" in answer(board)


def test_bm25_above_every_head_is_a_warning(tmp_path):
    board = board_of(tmp_path / "x", CLEAR)
    assert not any("BM25" in line for line in warnings(board))
    bm25 = next(row for row in board.references if row.label == "bm25")
    raised = replace(bm25, scores={name: {"pydocs": (0.99,)} for name in bm25.scores})
    others = tuple(row for row in board.references if row.label != "bm25")
    best = max(row.mean("nDCG@10") for row in board.rows)
    said = " ".join(warnings(replace(board, references=(raised, *others))))
    assert f"BM25 scores {100 * (0.99 - best):.2f} points above the best variant" in said


def test_the_page_has_the_answer_the_warnings_and_the_forest_plot_before_the_table(tmp_path):
    plan = replace(CLEAR, failed={("a", 1): "the loss was NaN"})
    page = write_report(make_experiment(tmp_path / "x", plan))
    text = page.read_text()
    places = [
        text.index(part) for part in ("<dt>Head to use", 'id="warnings"', 'id="figure-forest"', '<table id="table"')
    ]
    assert places == sorted(places)
    for name in re.findall(r'href="([^"#]+)"', text):
        assert (page.parent / name).is_file()
    assert all(f'id="{anchor}"' in text for anchor in re.findall(r'href="#([^"]+)"', text.partition("<figure")[0]))
    board = build_leaderboard(load_experiment(tmp_path / "x"))
    assert {"bm25", "backbone", "linear"} <= {row.label for row in shown_rows(board)}
