import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from eval.verdicts import Scores, baseline_seeds, judge, judge_datasets, smallest_equivalence, winner
from eval.verdicts.variance import differences
from tests.eval.verdicts.made import constant, experiment


def test_single_flips_of_three_queries_are_no_proof():
    """Each seed flips one query of fifty: the standard error over seeds came out zero, and p with it."""
    base = np.zeros((3, 50))
    flipped = base.copy()
    flipped[0, 0] = flipped[1, 1] = flipped[2, 2] = 1
    for group in (None, "shared"):
        scores = {"b": Scores((0, 1, 2), (base,), group), "v": Scores((0, 1, 2), (flipped,), group)}
        for scope in (judge(scores, "b")["v"].these_queries, judge(scores, "b")["v"].new_queries):
            assert scope.word == "no difference shown"
            assert scope.p_value > 0.05


def test_a_constant_difference_is_shown_but_never_with_certainty():
    grid = np.round(4 * np.random.default_rng(0).uniform(0, 1, (3, 100))) / 4
    scores = {"b": Scores((0, 1, 2), (grid,), "x"), "v": Scores((0, 1, 2), (grid + 0.25,), "x")}
    verdict = judge(scores, "b")["v"]
    assert verdict.word == "better"
    assert verdict.new_queries.p_value > 0
    assert verdict.new_queries.standard_error > 0


def test_equal_scores_are_no_difference():
    table = np.random.default_rng(0).normal(0, 1, (3, 10))
    verdict = judge({"b": Scores((0, 1, 2), (table,)), "same": Scores((0, 1, 2), (table,))}, "b")["same"]
    assert (verdict.difference, verdict.new_queries.p_value, verdict.word) == (0, 1, "no difference shown")
    assert verdict.beats == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(12))
def test_an_interval_excludes_zero_exactly_where_the_word_says_so(seed):
    means = {"b": 0.0, "u": 0.25, "v": 0.35, "w": -0.4, "x": 0.0}
    scores = experiment(seed, means, seed_sd=0.1, query_sd=0.3, start_sd=0.5 if seed % 2 else None)
    for verdict in judge(scores, "b").values():
        for scope in (verdict.these_queries, verdict.new_queries):
            assert (scope.low > 0) == (scope.word == "better")
            assert (scope.high < 0) == (scope.word == "worse")
            assert (scope.adjusted_p < 0.05) == (scope.word != "no difference shown")


def test_certain_on_these_queries_and_not_on_new_ones():
    """Ten seeds agree, and few queries were asked."""
    scores = experiment(
        4, {"b": 0.0, "v": 0.6}, seeds=10, queries=20, seed_sd=0.05, query_sd=1.5, noise_sd=0.1, start_sd=1
    )
    verdict = judge(scores, "b")["v"]
    assert verdict.these_queries.word == "better"
    assert verdict.new_queries.word == "no difference shown"
    assert (verdict.ahead, verdict.seeds) == (10, 10)
    assert verdict.queries_needed() > 20


def test_two_fixed_models_get_scipys_paired_t_over_queries():
    generator = np.random.default_rng(5)
    base = generator.uniform(0, 1, 120)
    variant = base + generator.normal(0.04, 0.1, 120)
    verdict = judge({"b": Scores((0,), (base[None],)), "v": Scores((3,), (variant[None],))}, "b")["v"]
    expected = stats.ttest_rel(variant, base)
    assert verdict.fixed
    assert verdict.new_queries.p_value == pytest.approx(expected.pvalue)
    assert verdict.new_queries.word == "better"
    assert verdict.these_queries.word == verdict.word == "too few seeds"
    assert verdict.these_queries.low is None
    assert verdict.smallest_shown == pytest.approx(2.8 * 0.1 / np.sqrt(120), rel=0.25)


@pytest.mark.parametrize(("mine", "theirs"), [(1, 3), (2, 2), (3, 2), (2, 5)])
def test_fewer_than_three_seeds_give_no_verdict(mine, theirs):
    scores = experiment(0, {"b": 0.0, "v": 9.0}, seeds=mine, baseline_seeds=theirs)
    verdict = judge(scores, "b")["v"]
    assert {verdict.these_queries.word, verdict.new_queries.word} == {"too few seeds"}
    assert (verdict.smallest_shown, verdict.queries_needed(), verdict.new_queries.high) == (None, None, None)


def test_equivalence_is_two_one_sided_tests_at_five_percent_over_the_variants():
    scores = experiment(1, {"b": 0.0, "u": 0.0, "v": 0.0}, seeds=8, seed_sd=0.02, noise_sd=0.3)
    for name, verdict in judge(scores, "b", resolution=0.2).items():
        tails = []
        for scope in (verdict.these_queries, verdict.new_queries):
            t = [(scope.difference - 0.2) / scope.standard_error, -(scope.difference + 0.2) / scope.standard_error]
            tails.append(2 * max(stats.t.cdf(t, scope.df)))
            assert scope.equivalent_p == pytest.approx(max(tails))
            assert scope.word == "equivalent", name
    assert judge(scores, "b", resolution=0.01)["v"].word == "undecided"


def test_the_resolution_that_queries_allow_is_that_of_the_quickstart():
    assert smallest_equivalence(2 * 0.0468**2 / 300, variants=6) == pytest.approx(0.014, abs=0.0003)
    assert smallest_equivalence(0.0, variants=6) == 0.0


def test_the_baselines_seeds():
    assert [baseline_seeds(seeds, 6) for seeds in (3, 5, 10)] == [8, 13, 25]
    assert baseline_seeds(4, 4) == 8


def test_judging_turned_round_turns_the_verdict_round():
    scores = experiment(2, {"a": 0.0, "b": 3.0}, seeds=4)
    one, other = judge(scores, "a")["b"], judge(scores, "b")["a"]
    assert one.difference == pytest.approx(-other.difference)
    assert one.beats == pytest.approx(1 - other.beats, abs=0.01)
    assert (one.word, other.word) == ("better", "worse")


def test_the_chance_to_beat_counts_new_trials():
    generator = np.random.default_rng(0)
    values = {name: generator.normal(mean, 1.0, 400) for name, mean in (("v", 1.0), ("b", 0.0))}
    wins = np.mean(values["v"][:, None] > values["b"])
    scores = {name: constant(one, queries=3) for name, one in values.items()}
    assert judge(scores, "b")["v"].beats == pytest.approx(wins, abs=0.02)


def test_cells_are_corrected_for_the_number_of_data_sets():
    scores = experiment(3, {"b": 0.0, "v": 0.5})
    both = {name: Scores(one.seeds, one.tables * 2) for name, one in scores.items()}
    alone, cell = judge(scores, "b")["v"].new_queries, judge_datasets(both, "b", ["x", "y"])["y"]["v"].new_queries
    assert cell.adjusted_p == pytest.approx(min(1.0, 2 * alone.adjusted_p))
    assert cell.high - cell.low > 1.05 * (alone.high - alone.low)


def test_a_verdict_can_be_stored_as_json():
    verdict = judge(experiment(0, {"b": 0.0, "v": 0.0}), "b")["v"]
    stored = json.loads(json.dumps(dataclasses.asdict(verdict)))
    assert stored["these_queries"]["word"] == verdict.these_queries.word


def test_the_winners_luck_is_taken_off():
    said, true, shrunk = [], [], []
    for random in range(200):
        gains = np.random.default_rng([random, 7]).normal(0, 0.3, 12)
        means = {"b": 0.0} | {f"v{place}": gain for place, gain in enumerate(gains)}
        best = winner(judge(experiment(random, means, seeds=6, queries=30, seed_sd=0.5), "b"))
        said.append(best.difference)
        shrunk.append(best.shrunk)
        true.append(means[best.name])
    luck = np.mean(said) - np.mean(true)
    assert luck > 0.1
    assert abs(np.mean(shrunk) - np.mean(true)) < luck / 3


def test_the_shrunk_estimate_follows_the_formula():
    scores = experiment(1, {"b": 0.0, "u": 0.8, "v": 1.6, "w": 0.4})
    verdicts = judge(scores, "b")
    parts = [one.design.difference for one in verdicts.values()]
    d = np.array([one.mean for one in parts])
    own = np.mean([one.own.variance / 5 + one.query_part / 2 for one in parts])
    base = np.mean([one.shared.variance / 5 + one.query_part / 2 for one in parts])
    real = 1 - 1 / 2 * own / d.var(ddof=1)
    chance = own / 3 + base
    t = max(real * d.var(ddof=1) / 3, d.mean() ** 2 - chance)
    best = winner(verdicts)
    assert (best.name, best.compared) == ("v", 3)
    assert best.shrunk == pytest.approx(d.mean() * t / (t + chance) + real * (d.max() - d.mean()))
    assert winner(judge(experiment(0, {"b": 0.0, "v": 9.0}, seeds=2), "b")) is None


def test_a_single_variants_difference_is_shrunk_by_its_own_error():
    verdicts = judge(experiment(1, {"b": 0.0, "v": 1.0}), "b")
    d, error = verdicts["v"].difference, verdicts["v"].new_queries.standard_error
    assert winner(verdicts).shrunk == pytest.approx(d * (1 - error**2 / d**2))


@pytest.mark.parametrize("seeds", [3, 4])
def test_nothing_is_surer_for_new_queries_than_for_these(seeds):
    """Many queries bring many degrees of freedom, which once made the wider question's interval the narrower one."""
    narrower = 0
    for random in range(30):
        scores = experiment(random, {"b": 0.0, "v": 0.3, "w": 0.0}, seeds=seeds, queries=400, query_sd=0.4)
        for name, verdict in judge(scores, "b", resolution=0.5).items():
            here, new = verdict.these_queries, verdict.new_queries
            assert new.high - new.low >= here.high - here.low
            assert new.p_value >= here.p_value
            assert new.equivalent_p >= here.equivalent_p
            own = differences(scores, "b")[name].estimate(new_queries=True)
            narrower += dataclasses.replace(own, narrower=None).p_value() < here.p_value
    assert narrower > 0
