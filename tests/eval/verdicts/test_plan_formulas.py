"""Plans and corrections against their formulas, solved by other means."""

import numpy as np
import pytest
from scipy import optimize, stats

from eval.verdicts import judge
from eval.verdicts.difference import Difference, Part
from eval.verdicts.multiple import adjust, critical
from eval.verdicts.power import LATTICE, Design, smallest_equivalence
from tests.eval.verdicts.formulas import any_of
from tests.eval.verdicts.made import experiment


def made(*, start=None, shared=0.0001, between=0.0009, noise=0.0002, fixed=False, comparisons=4, queries=(50, 30)):
    seeds, base = (1, 1) if fixed else (4, 6)
    own = Part(0.0004, 0.0001, seeds, 7.5, lenders=3, likeness=0.7)
    part = Part(shared, shared / 2, base, 5.0)
    more = Part(start, start / 5, seeds, 3.0) if start else None
    return Design(
        Difference(0.0, own, part, more, between, noise, 60.0, queries, seeds, base, False, None), comparisons
    )


def chance(design, difference, seeds, more, new_queries):
    """The share of new experiments that show a difference, over the draws of the true variances."""
    one = design.difference
    factor = seeds / one.seeds if seeds else 1.0
    terms, over_seeds, luck = [], 0.0, 0.0
    for place, part in enumerate(one.parts):
        count = max(2, round(part.seeds * factor))
        size = (part.variance - part.noise + part.noise / more) / count
        lent = (
            part.likeness / (1 / {2: 4, 3: 4, 4: 5}.get(count, 6) + 1 / (part.lenders * (count - 1)))
            if part.lenders
            else 0
        )
        terms.append((size * part.df / stats.chi2.ppf(LATTICE[:, place], part.df), count - 1 + lent))
        over_seeds += size
        luck += size if part == one.shared else 0.0
    if new_queries:
        between = one.between * one.query_df / stats.chi2.ppf(LATTICE[:, 3], one.query_df)
        terms.append((np.maximum(between - one.noise, 0) / more, max(1.0, one.query_df * more)))
    total = sum(size for size, _ in terms)
    h = total / sum(size / df for size, df in terms)
    w = total**2 / sum(size**2 / df for size, df in terms)
    df = h ** (2 / 3) * w ** (1 / 3)
    z = critical(luck / over_seeds if over_seeds else 0.0, design.comparisons, 0.05)
    limit = stats.t.ppf(stats.norm.cdf(z), df) * np.sqrt(stats.chi2.ppf(LATTICE[:, 4], df) / df)
    return float(np.mean(stats.norm.cdf(difference / np.sqrt(total) - limit)))


CASES = [
    (made(), None, 1.0, True),
    (made(), 1, 1.0, True),
    (made(), 3, 1.0, True),
    (made(), 9, 2.5, True),
    (made(), 9, 1.0, False),
    (made(), None, 0.3, True),
    (made(start=0.0003), 7, 1.0, True),
    (made(start=0.0003), 7, 1.0, False),
    (made(shared=0.0, between=0.0001, noise=0.0002), None, 1.0, True),
    (made(fixed=True), None, 2.0, True),
    (made(fixed=True), None, 0.01, True),
]


@pytest.mark.parametrize(("design", "seeds", "more", "new_queries"), CASES)
def test_the_smallest_difference_shown_is_where_four_of_five_experiments_show_one(design, seeds, more, new_queries):
    found = design.smallest_shown(seeds, more, new_queries=new_queries)
    expected = optimize.brentq(lambda x: chance(design, x, seeds, more, new_queries) - 0.8, 0.0, 100.0, xtol=1e-12)
    assert found == pytest.approx(expected, rel=1e-6)


def test_without_any_chance_every_difference_is_shown():
    nothing = Part(0.0, 0.0, 4, 3.0)
    certain = Design(Difference(0.0, nothing, nothing, None, 0.0, 0.0, 49.0, (50,), 4, 4, False, None), 3)
    assert 0 < certain.smallest_shown() < 1e-7
    assert 0 < certain.smallest_shown(5, 2.0, new_queries=False) < 1e-7


def test_the_draws_are_roberts_sequence():
    root = optimize.brentq(lambda x: x**6 - x - 1, 1, 2)
    expected = [[(0.5 + draw / root**power) % 1 for power in range(1, 6)] for draw in range(256)]
    np.testing.assert_allclose(LATTICE, expected, atol=1e-9)


def test_the_least_number_of_seeds_is_between_3_and_100():
    design = made()
    for seeds in (3, 4, 17, 99, 100):
        assert design.seeds_needed(design.smallest_shown(seeds)) == seeds
    assert design.seeds_needed(1.0) == 3
    assert design.seeds_needed(design.smallest_shown(100) * 0.9999) is None
    here = design.smallest_shown(40, new_queries=False)
    assert design.seeds_needed(here, new_queries=False) == 40
    assert design.seeds_needed(here) is None


def test_the_least_number_of_queries_is_between_two_a_data_set_and_a_thousand_times_as_many():
    design = made()
    for more in (0.2, 1.0, 3.0, 1000.0):
        difference = design.smallest_shown(None, more) * (1 + 1e-9)
        assert design.queries_needed(difference) == pytest.approx(80 * more, rel=2e-3, abs=1)
    assert design.queries_needed(design.smallest_shown(None, 1000.0) * 0.9999) is None
    assert design.queries_needed(1e6) == 4
    assert (design.seeds, design.queries) == (4, (50, 30))


def test_a_verdict_asks_what_would_show_its_own_difference():
    scores = experiment(4, {"b": 0.0, "v": -0.6}, seeds=5, queries=20, seed_sd=0.05, query_sd=1.5, noise_sd=0.1)
    verdict = judge(scores, "b")["v"]
    design, size = verdict.design, abs(verdict.difference)
    assert verdict.seeds_needed() == design.seeds_needed(size) != verdict.seeds_needed(new_queries=False)
    assert verdict.seeds_needed(new_queries=False) == design.seeds_needed(size, new_queries=False)
    assert verdict.queries_needed() == design.queries_needed(size)
    assert (verdict.smallest_shown, verdict.smallest_shown_here) == (
        design.smallest_shown(),
        design.smallest_shown(new_queries=False),
    )
    few = judge({name: one.rows(0, 2) for name, one in scores.items()}, "b")["v"]
    assert (few.design, few.seeds_needed(), few.queries_needed(), few.smallest_shown_here) == (None,) * 4


@pytest.mark.parametrize("variants", [1, 6])
def test_the_resolution_that_queries_allow_is_the_formula(variants):
    expected = (stats.norm.ppf(1 - 0.05 / variants) + stats.norm.ppf(0.9)) * np.sqrt(0.0003)
    assert smallest_equivalence(0.0003, variants) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [2, 5, 30])
@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("p_value", [0.9, 0.2, 0.01])
def test_the_correction_is_dunnetts_integral(p_value, correlation, count):
    expected = any_of(stats.norm.isf(p_value / 2), correlation, count)
    assert adjust(p_value, correlation, count) == pytest.approx(expected, rel=5e-4)
    z = critical(correlation, count, p_value / 3)
    assert any_of(z, correlation, count) == pytest.approx(p_value / 3, rel=2e-3)


def test_the_largest_correlation_is_nine_tenths_and_three_digits_count():
    for one, other in ((0.97, 0.9), (0.9004, 0.9), (-0.2, 0.0), (0.12345, 0.123), (0.4996, 0.5)):
        assert adjust(0.02, one, 6) == adjust(0.02, other, 6)
        assert critical(one, 6, 0.05) == critical(other, 6, 0.05)
    for one, other in ((0.85, 0.9), (0.121, 0.123), (0.002, 0.0)):
        assert adjust(0.02, one, 6) != adjust(0.02, other, 6)


def test_a_correction_never_lowers_a_p_value():
    assert adjust(1.0, 0.3, 5) == adjust(1.0, 0.3, 1) == adjust(1.5, 0.3, 1) == 1.0
    assert adjust(1e-9, 0.9, 2) >= 1e-9
