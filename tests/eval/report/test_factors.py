"""Factors of grids and axes, and each head's own learning rate, as the report shows them."""

import json
from dataclasses import replace

import pytest

from eval.report import write_report
from eval.report.answer import answer, notes
from eval.report.axis_figure import axis_curves
from eval.report.effect_text import effect_title, warnings
from eval.report.figures import FIGURES
from eval.report.formats.data_files import json_text
from eval.report.formats.html import html_text
from eval.report.rates import lost_gains, rate_curve, rate_lines, rate_note
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.verdicts import Design, effects, judge
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord, LookRecord, RoundsRecord
from tests.eval.report.factory import Plan, make_experiment, sweep_record
from tests.eval.report.test_scopes import edit

GRID = "ffn(depth={2,3}, activation={identity,gelu})"
CELLS = {
    'ffn(depth=2, activation="identity")': ("2", "identity", 0.0),
    'ffn(depth=2, activation="gelu")': ("2", "gelu", -0.03),
    'ffn(depth=3, activation="identity")': ("3", "identity", -0.03),
    'ffn(depth=3, activation="gelu")': ("3", "gelu", 0.05),
}
SWEEP = sweep_record({0.0003: [0.40, 0.42], 0.001: [0.50, 0.51], 0.003: [0.45, 0.46]})


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    shifts = {"linear": 0.0} | {label: effect for label, (_, _, effect) in CELLS.items()}
    plan = Plan(effects=shifts, query_sd=0.005, noise_sd=0.02, queries=100)
    return edit(make_experiment(tmp_path_factory.mktemp("grid") / "x", plan), heads={"grids": [GRID]})


def test_the_effects_are_those_of_the_grids_cells(grid):
    board = build_leaderboard(load_experiment(grid))
    (found,) = board.factors
    levels = {label: {"depth": depth, "activation": kind} for label, (depth, kind, _) in CELLS.items()}
    assert found.effects == effects(board.scores, levels)
    assert [effect_title(one) for one in found.effects.main] == [
        "depth: 3 instead of 2",
        "activation: gelu instead of identity",
    ]
    (interaction,) = found.effects.interactions
    assert effect_title(interaction) == "depth=3 with activation=gelu"
    assert interaction.these_queries.difference == pytest.approx(0.11, abs=0.02)


def test_a_main_effect_that_an_interaction_makes_misleading_is_said(grid):
    board = build_leaderboard(load_experiment(grid))
    said = warnings(board.factors[0].effects)
    assert len(said) == 2
    assert said[0].startswith("depth: 3 instead of 2: its effect depends on activation (\N{MINUS SIGN}")
    assert set(said) <= set(notes(board))


def test_the_page_has_a_section_and_a_figure_of_the_factors(grid):
    page = write_report(grid)
    text = page.read_text()
    assert GRID in text
    assert 'id="figure-factors"' in text
    assert "depth=3 with activation=gelu" in page.with_suffix(".md").read_text()


def test_effects_account_for_the_looks_before(tmp_path):
    shifts = {"linear": 0.0} | {label: effect for label, (_, _, effect) in CELLS.items()}
    plan = Plan(effects=shifts, seeds=(0, 1, 2, 3, 4), query_sd=0.005, noise_sd=0.02)
    experiment = load_experiment(edit(make_experiment(tmp_path / "x", plan), heads={"grids": [GRID]}))
    seeds = {label: len(one.seeds) for label, one in build_leaderboard(experiment).scores.items()}

    def with_looks(*looks):
        record = RoundsRecord(
            question=experiment.question, looks=[LookRecord(seeds=one, states={}) for one in looks], done=True
        )
        return build_leaderboard(replace(experiment, rounds=record))

    def bounds(board):
        scope = board.factors[0].effects.main[0].these_queries
        return scope.low, scope.high

    fewer, too_few = (dict.fromkeys(seeds, count) for count in (3, 2))
    only_linear = seeds | {"linear": 3}
    alone = bounds(with_looks(seeds))
    assert bounds(with_looks(too_few, only_linear, seeds)) == alone  # effects were not to be read, or the same
    later = with_looks(fewer, seeds)
    assert bounds(later)[0] < alone[0]
    assert bounds(later)[1] > alone[1]
    assert any("Effects of factors use all seeds, and are judged more strictly." in note for note in notes(later))

    experiment = replace(experiment, question={"resolution": 1.0, "seeds": [3, 8]})
    by_rule = with_looks(fewer, seeds)
    assert bounds(by_rule) == alone
    assert any("no round depended on them" in note for note in notes(by_rule))


def test_a_grid_that_cannot_be_judged_says_why(grid):
    experiment = load_experiment(grid)
    few = replace(experiment, trials=tuple(one for one in experiment.trials if one.seed < 2))
    board = build_leaderboard(few)
    assert board.factors[0].effects is None
    assert any(f"The factors of {GRID} have no effects here" in note for note in notes(board))


def test_levels_match_however_the_configuration_spells_a_head(tmp_path):
    """Labels are complete, such as ``glu()`` and 1.0; a grid may say ``glu`` and 1."""
    labels = ["residual(inner=ffn(depth=2), scale=1.0)", "residual(inner=glu(), scale=1.0)"]
    folder = make_experiment(tmp_path / "x", Plan(effects={"linear": 0.0} | dict.fromkeys(labels, 0.01), queries=20))
    edit(folder, heads={"grids": ["residual(inner={ffn(depth=2),glu}, scale=1)"]})
    (found,) = build_leaderboard(load_experiment(folder)).factors
    assert [effect_title(one) for one in found.effects.main] == ["inner: glu instead of ffn(depth=2)"]


def test_settings_that_are_compared_are_rows_of_their_own_with_the_baseline_at_the_same_point(tmp_path):
    plan = Plan(effects={"linear": 0.0, "a": 0.03}, query_sd=0.005, noise_sd=0.02)
    experiments = [load_experiment(make_experiment(tmp_path / str(n), plan, random=n)) for n in (0, 1)]
    trials = [
        replace(trial, record=trial.record.replace(axes={"max_pairs": 400 * (1 + place)}))
        for place, experiment in enumerate(experiments)
        for trial in experiment.trials
    ]
    board = build_leaderboard(replace(experiments[0], trials=tuple(trials)))
    assert {row.label for row in board.rows if row.kind == "baseline"} == {
        "linear @ max_pairs=400",
        "linear @ max_pairs=800",
    }
    pair = {label: board.scores[label] for label in ("linear @ max_pairs=800", "a @ max_pairs=800")}
    expected = judge(pair, "linear @ max_pairs=800", families=2)["a @ max_pairs=800"]
    assert next(row.verdict for row in board.rows if row.label == "a @ max_pairs=800") == expected
    assert [one.factors for one in board.factors[0].effects.main] == [("head",), ("max_pairs",)]
    assert isinstance(board.design, Design)
    assert board.design.comparisons == 2  # one variant at each of two points, not three rows against the first baseline
    best = max((row for row in board.rows if row.verdict), key=lambda row: row.verdict.difference).label
    baseline = best.replace("a @", "linear @")
    assert best.startswith("a @")
    assert f"{best} gains" in answer(board)
    assert f"over {baseline} on" in answer(board)
    assert board.against == "linear at the same settings"
    (line,) = [one for one in axis_curves(board).axes[0].get_lines() if one.get_label() == "a"]
    verdicts = {row.label: row.verdict for row in board.rows}
    differences = [100 * verdicts[f"a @ max_pairs={pairs}"].difference for pairs in (400, 800)]
    assert line.get_xdata().tolist() == [400, 800]
    assert line.get_ydata().tolist() == pytest.approx(differences)
    diamonds = [one for one in FIGURES["forest"].draw(board).axes[0].get_lines() if one.get_marker() == "D"]
    assert [one.get_xdata().item() for one in diamonds] == [0.0, 0.0]  # each at its own setting, and no reference


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Each variant at its own rate, 0.003; at the shared one, 0.001, ``a`` is 4 points better and linear 4 worse."""
    return at_two_rates(tmp_path_factory.mktemp("swept") / "x", gain=0.0, shared={"a": 0.04, "linear": -0.04})


def at_two_rates(path, *, gain, shared):
    """Variants at their own rate, 0.003, where ``a`` gains over linear, and shifted at the shared rate, 0.001."""
    plan = Plan(effects={"linear": 0.0, "a": gain}, query_sd=0.005, noise_sd=0.02, sweep=SWEEP)
    folder = edit(make_experiment(path, plan), train={"optimizer": {"head_lr": 0.001}})
    for trial in ExperimentFolder(folder).trials():
        record = trial.read_trial()
        record.replace(learning_rate=0.003).write(trial.trial_json)
        candidate = ExperimentFolder(folder).candidate(record.slug, "point", record.seed)
        record.replace(learning_rate=0.001, sweep=None).write(candidate.trial_json)
        shift = shared[record.label]
        own = EvaluationRecord.read(trial.eval_json("pydocs"))
        moved = {name: {query: score + shift for query, score in one.items()} for name, one in own.measures.items()}
        own.replace(measures=moved).write(candidate.eval_json("pydocs"))
    return folder


def test_the_verdict_at_one_rate_is_beside_the_one_at_each_heads_own(swept):
    board = build_leaderboard(load_experiment(swept))
    own = next(row.verdict for row in board.rows if row.label == "a")
    shared = board.at_shared_rate["a"]
    assert shared.difference == pytest.approx(own.difference + 0.08)
    assert shared.these_queries.word == "better"
    line = next(line for line in rate_lines(board) if line.label == "a")
    assert line.shared.startswith(f"+{100 * shared.difference:.2f} [")
    assert line.shared.endswith("] better")
    assert line.own.endswith("] no difference shown")
    assert rate_note(board).startswith(f"a differs from linear by +{100 * shared.difference:.2f} [")
    assert "at one learning rate (0.001)" in rate_note(board)
    assert line.gain.startswith("\N{MINUS SIGN}4.00 [")
    page = write_report(swept).read_text()
    assert 'id="figure-rates"' in page
    assert "what its own rate changes [95%]" in page
    assert "difference, all at 0.001 [95%]" in page


def test_each_variant_is_compared_with_itself_at_the_shared_rate(swept):
    board = build_leaderboard(load_experiment(swept))
    for label, change in (("a", -0.04), ("linear", 0.04)):
        found, row = board.own_rates[label], next(row for row in board.rows if row.label == label)
        assert found.change.difference == pytest.approx(change)
        assert found.change.ahead == (0 if change < 0 else found.change.seeds)  # seed by seed
        assert found.mean == pytest.approx(row.mean("nDCG@10") - change)
        value = json.loads(json_text(board))["own_rates"][label]
        assert value["mean_at_shared_rate"] == found.mean
        assert value["means_at_shared_rate"] == {"pydocs": pytest.approx(found.mean)}
        assert value["own_against_shared"]["difference"] == found.change.difference
    assert lost_gains(board) == []  # nothing is shown to gain over linear


def test_trials_that_are_at_the_shared_rate_themselves_change_nothing(swept):
    experiment = load_experiment(swept)
    itself = [trial for trial in reversed(experiment.trials) if trial.label == "linear"]
    others = [trial for trial in experiment.shared if trial.label != "linear"]
    board = build_leaderboard(replace(experiment, shared=(*itself, *others)))
    assert board.own_rates["linear"].change is None
    assert next(line for line in rate_lines(board) if line.label == "linear").gain == ""
    alone = build_leaderboard(replace(experiment, shared=tuple(itself)))
    assert "what its own rate changes" in html_text(board, {})
    assert "what its own rate changes" not in html_text(alone, {})


def test_a_variant_of_which_no_seed_has_both_rates_is_not_compared_with_itself(swept):
    experiment = load_experiment(swept)
    seeds = sorted({trial.seed for trial in experiment.trials})
    trials = [one for one in experiment.trials if one.label != "a" or one.seed != seeds[0]]
    shared = [one for one in experiment.shared if one.label != "a" or one.seed == seeds[0]]
    found = build_leaderboard(replace(experiment, trials=tuple(trials), shared=tuple(shared))).own_rates
    assert (found["a"].seeds, found["a"].change) == ((seeds[0],), None)
    assert found["linear"].change is not None


@pytest.mark.parametrize(("lost", "noted"), [(0.02, True), (0.005, False), (-0.02, False)])
def test_a_gain_over_a_baseline_that_its_own_rate_holds_back_is_pointed_out(tmp_path, lost, noted):
    folder = at_two_rates(tmp_path / "x", gain=0.04, shared={"a": 0.0, "linear": lost})
    board = build_leaderboard(load_experiment(folder))
    assert [note.startswith("linear changes by \N{MINUS SIGN}2.00 [") for note in lost_gains(board)] == [True] * noted
    assert set(lost_gains(board)) <= set(notes(board))


def test_each_point_of_the_axes_has_its_verdict_at_the_shared_rate(swept):
    experiment = load_experiment(swept)

    def at(trial, pairs):
        return replace(trial, record=trial.record.replace(axes={"max_pairs": pairs}))

    both = {
        name: tuple(at(trial, pairs) for pairs in (400, 800) for trial in trials)
        for name, trials in (("trials", experiment.trials), ("shared", experiment.shared))
    }
    board = build_leaderboard(replace(experiment, **both))
    alone = build_leaderboard(experiment).at_shared_rate["a"]
    assert board.at_shared_rate.keys() == {"a @ max_pairs=400", "a @ max_pairs=800"}
    assert {one.difference for one in board.at_shared_rate.values()} == {alone.difference}
    assert rate_note(board).startswith("a @ max_pairs=400 differs from linear @ max_pairs=400 by +")


def test_the_curve_is_the_mean_over_seeds_and_marks_the_choice(swept):
    curve = rate_curve(load_experiment(swept), "a")
    assert curve.points == ((0.0003, pytest.approx(0.41)), (0.001, pytest.approx(0.505)), (0.003, pytest.approx(0.455)))
    assert curve.chosen == (0.001, pytest.approx(0.505))


def test_without_trials_at_the_shared_rate_there_is_nothing_to_compare(tmp_path):
    plan = Plan(effects={"linear": 0.0, "a": 0.0}, sweep=SWEEP, queries=10)
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", plan)))
    assert board.at_shared_rate == {}
    assert rate_note(board) == ""
    assert len(rate_lines(board)) == 2
