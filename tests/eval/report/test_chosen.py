import json

import numpy as np
import pytest

from eval.report import write_report
from eval.report.answer import notes
from eval.report.chosen import chosen_point, sweep_shares
from eval.report.reading import load_experiment
from eval.report.results import Trial
from eval.report.table import build_leaderboard
from tests.eval.report.factory import Plan, make_experiment, sweep_record, trial_record

SCORES = {0.0003: [0.40, 0.42, 0.38], 0.001: [0.50, 0.51, 0.49], 0.003: [0.45, 0.46, 0.44]}


def trial(sweep, label="linear"):
    return Trial(trial_record(label, 0, 0, None, sweep), [], {})


def test_the_chosen_rate_stands_in_the_table_and_its_choice_in_the_notes(tmp_path):
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", Plan(sweep=sweep_record(SCORES)))))
    assert {row.costs.chosen.text() for row in board.rows} == {"0.001"}
    text = " ".join(notes(board))
    assert "trained at 3 points of the sweep, and the best by nDCG@10 on 128 held-out pairs was kept" in text
    assert "edge" not in text


def test_several_collections_that_choose_are_named_after_the_sentence(tmp_path):
    sweep = sweep_record(SCORES).replace(measure="nDCG@10 on all 60 queries of a (dev); 200 of 300 queries of b (dev)")
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", Plan(sweep=sweep))))
    (note,) = [note for note in notes(board) if "points of the sweep" in note]
    assert "and the best by the mean nDCG@10 over 2 collections was kept (for each seed" in note
    assert note.endswith("in the choice. The collections: all 60 queries of a (dev); 200 of 300 queries of b (dev).")


def test_a_choice_at_the_edge_is_a_warning(tmp_path):
    sweep = sweep_record({0.001: [0.4, 0.4], 0.003: [0.5, 0.5]})
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", Plan(sweep=sweep))))
    assert board.baseline_row.costs.chosen.text() == "0.003 (edge of the grid)"
    assert any("optimizer.head_lr=0.003 is at the edge of the grid (0.001 to 0.003)" in note for note in notes(board))
    page = write_report(tmp_path / "x").read_text()
    assert "0.003 (edge of the grid)" in page
    assert "in the sweep's own score: nDCG@10 on 128 held-out pairs" in page


def test_a_grown_rate_has_three_digits_where_people_read_it_and_all_of_them_in_the_data(tmp_path):
    grown = 0.000333333
    sweep = sweep_record({grown: [0.5, 0.5], 0.001: [0.4, 0.4]})
    report = write_report(make_experiment(tmp_path / "x", Plan(sweep=sweep)))
    for name in ("leaderboard.html", "leaderboard.md", "leaderboard.tex"):
        assert str(grown) not in (report.parent / name).read_text(), name
    assert "head_lr=0.000333 is at the edge of the grid (0.000333 to 0.001)" in report.read_text()
    assert f"{grown} (edge of the grid)" in (report.parent / "leaderboard.csv").read_text()


def test_other_keys_of_the_grid_are_named_and_failed_points_counted():
    sweep = sweep_record({0.001: [0.4, None], 0.003: [0.5, 0.5]})
    both = sweep.chosen | {"temperature": 0.5}
    chosen = chosen_point([trial(sweep.replace(chosen=both, chosen_by_all=both))])
    assert chosen.text() == "0.003 (edge of the grid), temperature=0.5"
    assert (chosen.points, chosen.failed) == (2, 1)


def test_shares_of_the_sweep_are_recovered():
    generator = np.random.default_rng(0)
    trials = []
    for number in range(400):
        rates = generator.normal(0, 0.03, (4, 1))
        table = 0.5 + rates + generator.normal(0, 0.01, (1, 3)) + generator.normal(0, 0.02, (4, 3))
        scores = {0.001 * (row + 1): list(map(float, line)) for row, line in enumerate(table)}
        trials.append(trial(sweep_record(scores), f"v{number}"))
    shares = sweep_shares(trials)
    assert shares.learning_rate == pytest.approx(0.03, rel=0.05)
    assert shares.seed == pytest.approx(np.hypot(0.01, 0.02), rel=0.05)


def test_without_a_sweep_the_learning_rate_is_said_not_to_be_varied(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(queries=5))
    assert build_leaderboard(load_experiment(folder)).sweep is None
    assert "not varied" in write_report(folder).read_text()


def test_a_sweep_with_one_seed_gives_no_shares():
    assert sweep_shares([trial(sweep_record({0.001: [0.4], 0.003: [0.5]}))]) is None


def test_a_measure_that_is_too_easy_to_choose_by_is_a_note(tmp_path):
    easy = sweep_record({0.001: [0.99, 0.991], 0.003: [0.992, 0.988]})
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", Plan(sweep=easy))))
    (note,) = [note for note in notes(board) if "too easy to choose by" in note]
    assert "train.validation: {split: dev}" in note


def test_the_json_has_the_score_of_every_seed_at_every_point(tmp_path):
    scores = {0.001: [0.4, None], 0.003: [0.5, 0.6]}
    report = write_report(make_experiment(tmp_path / "x", Plan(sweep=sweep_record(scores))))
    value = json.loads((report.parent / "leaderboard.json").read_text())
    for row in value["rows"]:
        points = {point["values"]["optimizer.head_lr"]: list(point["scores"].values()) for point in row["sweep"]}
        assert points == scores
    assert value["references"][0]["sweep"] == []
