import numpy as np
import pytest
from scipy import stats

from eval.verdicts import judge
from eval.verdicts.difference import Difference, Part
from eval.verdicts.power import Design
from tests.eval.verdicts.made import experiment


def design(
    *,
    seeds=3,
    comparisons=6,
    seed_variance=0.0001,
    baseline_variance=0.0001,
    df=8.0,
    between=0.0003,
    noise=0.0001,
    queries=50,
):
    own = Part(seed_variance, seed_variance / 3, seeds, df, lenders=comparisons)
    shared = Part(baseline_variance, baseline_variance / 3, seeds, seeds - 1)
    return Design(
        Difference(0.0, own, shared, None, between, noise, queries - 1.0, (queries,), seeds, seeds, False, None),
        comparisons,
    )


def known(seeds, **changed):
    """A design whose variances are known as well as if there had been a million trials."""
    own = Part(0.0002, 0.0, seeds, 1e6)
    return Design(
        Difference(0.0, own, Part(0.0, 0.0, seeds, 1e6), None, 0.0, 0.0, 49.0, (50,), seeds, seeds, False, None), 1
    )


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_with_known_variances_it_is_the_power_of_the_t_test(seeds):
    error, critical = np.sqrt(0.0002 / seeds), stats.t.ppf(0.975, seeds - 1)
    shown = known(seeds).smallest_shown(new_queries=False)
    # The harmonic weights leave the t test's own degrees of freedom for a single part.
    assert stats.nct.sf(critical, seeds - 1, shown / error) == pytest.approx(0.8, abs=0.01)


def test_more_seeds_and_more_queries_show_smaller_differences():
    one = design()
    by_seeds = [one.smallest_shown(seeds) for seeds in (3, 4, 6, 10, 30)]
    by_queries = [one.smallest_shown(5, factor) for factor in (0.5, 1.0, 2.0, 10.0)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert by_queries == sorted(by_queries, reverse=True)


def test_less_is_promised_where_the_variances_are_known_less_well():
    vague, exact = (design(df=df, seed_variance=0.001, baseline_variance=0.0) for df in (3.0, 100.0))
    assert vague.smallest_shown(10) > 1.1 * exact.smallest_shown(10)


def test_what_a_plan_asks_for_is_enough_and_nothing_less_is():
    one = design()
    seeds = one.seeds_needed(0.06)
    assert one.smallest_shown(seeds) <= 0.06 < one.smallest_shown(seeds - 1)
    queries = one.queries_needed(0.09)
    assert one.smallest_shown(None, 1.02 * queries / 50) <= 0.09 < one.smallest_shown(None, 0.98 * queries / 50)
    assert one.seeds_needed(0.0001) is None
    assert one.queries_needed(0.0001) is None


def test_a_new_experiment_shows_what_an_earlier_one_promised_in_four_of_five():
    hits = []
    for random in range(150):
        earlier = judge(experiment([random, 0], dict.fromkeys("bvw", 0.0), query_sd=0.5, queries=60), "b")
        promised = earlier["v"].design.smallest_shown(8)
        means = {"b": 0.0, "v": promised, "w": 0.0}
        later = judge(experiment([random, 1], means, seeds=8, query_sd=0.5, queries=60), "b")
        hits.append(later["v"].word == "better")
    assert np.mean(hits) == pytest.approx(0.8, abs=0.1)
