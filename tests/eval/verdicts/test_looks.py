import numpy as np
import pytest

from eval.verdicts import Scores, baseline_seeds, decide, fresh, judge, race
from eval.verdicts.looks import BY_HAND, KAPPA, until
from tests.eval.verdicts.made import experiment

MEANS = {"b": 0.0, "far": 6.0, "low": -6.0, "near": 0.0}


def long_experiment(random=0, **changed):
    return experiment(random, MEANS, seeds=12, seed_sd=0.2, noise_sd=0.5, query_sd=0.1, **changed)


def test_clear_variants_are_decided_at_the_first_look_and_stay_decided():
    found = decide(long_experiment(), "b", [3, 4, 5], most=12, resolution=0.2)
    assert (found["far"].word, found["far"].look, found["far"].seeds) == ("better", 0, 3)
    assert (found["low"].word, found["low"].decided) == ("worse", True)
    assert found["near"].word == "undecided"
    later = decide(long_experiment(), "b", [3, 4, 5, 8, 12], most=12, resolution=0.5)
    assert later["far"] == decide(long_experiment(), "b", [3], most=12, resolution=0.5)["far"]
    assert later["near"].word == "equivalent"
    assert later["near"].equivalent_p < 0.05


def test_what_was_decided_does_not_depend_on_seeds_that_came_later():
    """An experiment that freezes decided variants sees what one that trains them all sees."""
    scores = long_experiment()
    frozen = scores | {name: scores[name].rows(0, 3) for name in ("far", "low")}
    looks = [{"b": 8, "far": 3, "low": 3, "near": 3}, {"b": 12, "far": 3, "low": 3, "near": 6}]
    assert decide(scores, "b", looks, most=12, resolution=0.4) == decide(frozen, "b", looks, most=12, resolution=0.4)


def test_one_look_without_a_cap_is_the_ordinary_verdict():
    scores = experiment(4, {"b": 0.0, "u": 0.4, "v": 0.9}, seeds=4)
    for name, decision in decide(scores, "b", [4]).items():
        scope = judge(scores, "b")[name].new_queries
        assert (decision.low, decision.high, decision.adjusted_p) == pytest.approx(
            (scope.low, scope.high, scope.adjusted_p)
        )


def test_later_looks_by_hand_ask_for_more():
    scores = experiment(4, {"b": 0.0, "u": 0.0, "v": 0.1}, seeds=8)
    second, scope = decide(scores, "b", [3, 8])["v"], judge(scores, "b")["v"].new_queries
    ordinary = scope.high - scope.difference
    assert second.high - second.difference > 1.2 * ordinary
    assert BY_HAND > KAPPA > 1


def test_early_looks_ask_for_more_than_the_last():
    scores = experiment(5, {"b": 0.0, "v": 0.0}, seeds=20, seed_sd=1.0)
    widths = []
    for seeds in (5, 20):
        one, scope = decide(scores, "b", [seeds], most=20)["v"], judge(until(scores, seeds), "b")["v"].new_queries
        widths.append((one.high - one.low) / (scope.high - scope.low))
    assert widths[0] > 1.3 * widths[1] > 1.3


def test_the_interval_of_a_decision_excludes_zero_exactly_where_it_says_so():
    for random in range(20):
        scores = experiment(random, {"b": 0.0, "u": 0.6, "v": 0.9}, seeds=6)
        for new_queries in (True, False):
            for one in decide(scores, "b", [3, 4, 6], most=8, new_queries=new_queries).values():
                assert (one.low > 0 or one.high < 0) == (one.word in ("better", "worse")) == (one.adjusted_p < 0.05)


def test_an_undecided_variant_says_what_it_would_take():
    one = decide(long_experiment(), "b", [3], most=12)["near"]
    assert one.word == "undecided"
    assert one.design.seeds_needed(0.5) > 3
    assert decide(long_experiment(), "b", [2])["near"].word == "too few seeds"


def test_looking_at_every_seed_makes_few_false_calls():
    wrong, naive = 0, 0
    for random in range(250):
        scores = experiment(random, {"b": 0.0, "v": 0.0}, seeds=12, queries=20, start_sd=1.0)
        looks = list(range(3, 13))
        wrong += decide(scores, "b", looks, most=12, new_queries=False)["v"].decided
        naive += any(judge(until(scores, n), "b")["v"].these_queries.word != "no difference shown" for n in looks)
    assert wrong / 250 <= 0.06 < naive / 250


def test_a_race_drops_losers_and_keeps_the_best():
    means = {"b": 0.0} | {f"v{place}": 0.25 * place for place in range(12)}
    scores = experiment(0, means, seeds=15, seed_sd=0.2, noise_sd=0.3)
    done = race(scores, [3, 4, 6, 10])
    assert done.survivors[0] == "v11"
    assert len(done.survivors) <= 2
    assert min(done.lost.values()) == 0
    assert set(done.lost) | set(done.survivors) == set(scores)
    rest = fresh({name: scores[name] for name in ("b", "v11")}, done.chosen_with)
    assert rest["v11"].seeds == scores["v11"].seeds[done.chosen_with["v11"] :]
    assert judge(rest, "b")["v11"].difference == pytest.approx(2.75, abs=0.4)


def test_equal_variants_all_survive_a_race_and_nothing_was_chosen():
    table = np.random.default_rng(0).uniform(0, 1, (5, 30))
    scores = {name: Scores(tuple(range(5)), (table,)) for name in "abc"}
    done = race(scores, [3, 5])
    assert (done.survivors, done.lost, done.chosen_with) == (("a", "b", "c"), {}, {"a": 0, "b": 0, "c": 0})


def test_a_look_takes_first_seeds_and_leaves_out_who_had_none():
    scores = long_experiment(baseline_seeds=baseline_seeds(12, 3))
    seen = until(scores, {"b": 8, "far": 3})
    assert {name: one.seeds for name, one in seen.items()} == {"b": tuple(range(8)), "far": (0, 1, 2)}
