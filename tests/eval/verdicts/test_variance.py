import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.verdicts.bootstrap import two_level_bootstrap
from eval.verdicts.judge import holm, judge, smallest_shown
from eval.verdicts.variance import BORROWED, Scores, borrow, estimate, levels, paired_levels
from projheads.errors import ProjheadsError


def crossed(random, seeds, queries, *, mean=0.0, seed_sd=1.0, query_sd=1.0, noise_sd=1.0):
    generator = np.random.default_rng(random)
    seed_part = generator.normal(0, seed_sd, (seeds, 1))
    query_part = generator.normal(0, query_sd, (1, queries))
    return mean + seed_part + query_part + generator.normal(0, noise_sd, (seeds, queries))


def slow_levels(table):
    """The two-way analysis of variance written out, cell by cell."""
    seeds, queries = table.shape
    grand = table.sum() / table.size
    ms_seed = sum(queries * (table[s].mean() - grand) ** 2 for s in range(seeds)) / (seeds - 1)
    ms_query = sum(seeds * (table[:, q].mean() - grand) ** 2 for q in range(queries)) / (queries - 1)
    ss_noise = 0.0
    for s in range(seeds):
        for q in range(queries):
            ss_noise += (table[s, q] - table[s].mean() - table[:, q].mean() + grand) ** 2
    ms_noise = ss_noise / ((seeds - 1) * (queries - 1))
    return ms_seed, ms_query, ms_noise


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 40))
def test_levels_equal_the_analysis_of_variance_written_out(random, seeds, queries):
    table = crossed(random, seeds, queries, query_sd=2.0)
    ms_seed, ms_query, ms_noise = slow_levels(table)
    part = levels([table])
    assert part.mean == pytest.approx(table.mean())
    assert part.seed_variance / seeds == pytest.approx(ms_seed / table.size)
    assert part.noise_part == pytest.approx(ms_noise / table.size)
    assert part.query_part == pytest.approx(max(0.0, (ms_query - ms_noise) / table.size), abs=1e-12)


def test_the_variance_of_the_mean_is_estimated_without_bias():
    truth = 0.5**2 / 4 + 1.5**2 / 30 + 1.0**2 / (4 * 30)
    estimated, means = [], []
    for random in range(4000):
        part = levels([crossed(random, 4, 30, seed_sd=0.5, query_sd=1.5)])
        estimated.append(estimate(part, part.seed_variance, 3).standard_error ** 2)
        means.append(part.mean)
    assert np.mean(estimated) == pytest.approx(truth, rel=0.02)
    assert np.var(means) == pytest.approx(truth, rel=0.06)


def test_data_sets_weigh_the_same_whatever_their_number_of_queries():
    small, large = np.full((3, 5), 1.0), np.full((3, 500), 0.0)
    assert levels([small, large]).mean == pytest.approx(0.5)


def test_two_data_sets_of_independent_queries_halve_what_the_draw_of_queries_adds():
    tables = [crossed(random, 5, 4000, seed_sd=0.0, noise_sd=0.2) for random in (1, 2)]
    alone = [levels([table]).query_part for table in tables]
    assert levels(tables).query_part == pytest.approx(sum(alone) / 4)


def test_only_seeds_vary_then_the_test_is_scipys_paired_t_over_seeds():
    generator = np.random.default_rng(3)
    variant, baseline = generator.normal(0.6, 0.1, 5), generator.normal(0.5, 0.1, 5)
    scores = {
        name: Scores(tuple(range(5)), (np.repeat(values[:, None], 50, axis=1),))
        for name, values in (("variant", variant), ("baseline", baseline))
    }
    expected = stats.ttest_rel(variant, baseline)
    verdict = judge(scores, "baseline")["variant"]
    assert verdict.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high))


def test_only_queries_vary_then_the_test_is_scipys_paired_t_over_queries():
    generator = np.random.default_rng(4)
    variant, baseline = generator.normal(0.52, 0.1, 80), generator.normal(0.5, 0.1, 80)
    scores = {name: Scores((0, 1, 2), (np.tile(values, (3, 1)),)) for name, values in (("v", variant), ("b", baseline))}
    expected = stats.ttest_rel(variant, baseline)
    verdict = judge(scores, "b")["v"]
    assert verdict.p_value == pytest.approx(expected.pvalue)
    assert verdict.df == pytest.approx(79)


def test_one_seed_is_scipys_paired_t_over_queries_and_agrees_with_a_permutation_test():
    generator = np.random.default_rng(5)
    difference = generator.normal(0.02, 0.1, 120)
    one = estimate(levels([difference[None]]), 0.0, 0.0)
    assert one.p_value() == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
    permuted = stats.permutation_test(
        (difference, np.zeros(120)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20000,
        rng=np.random.default_rng(6),
    )
    assert one.p_value() == pytest.approx(permuted.pvalue, abs=0.01)


def test_equal_scores_are_no_difference_and_a_constant_one_is_certain():
    table = crossed(0, 3, 10)
    scores = {"b": Scores((0, 1, 2), (table,)), "same": Scores((0, 1, 2), (table,))}
    verdict = judge(scores, "b")["same"]
    assert (verdict.difference, verdict.low, verdict.high, verdict.p_value) == (0, 0, 0, 1)
    assert verdict.word == "no difference shown"
    assert verdict.beats == pytest.approx(0.5)
    # Steps of 1/4 are exact in binary, so nothing but the constant is left.
    grid = np.round(4 * table) / 4
    scores = {"b": Scores((0, 1, 2), (grid,)), "more": Scores((0, 1, 2), (grid + 0.25,))}
    assert judge(scores, "b")["more"].p_value == 0


def test_borrowing_leaves_a_single_variant_alone():
    assert borrow([2.0], [5]) == [(2.0, 4.0)]
    assert borrow([2.0, 0.0], [5, 1]) == [(2.0, 4.0), (0.0, 0.0)]


def test_borrowing_averages_with_the_others_and_never_takes_more_than_its_limit():
    (first, df), *_ = borrow([1.5, 1.0, 1.0], [3, 3, 3])
    lent = 1 / (1 / BORROWED + 1 / (4 / 1.25))
    assert df == pytest.approx(2 + lent)
    assert first == pytest.approx((2 * 1.5 + lent * 1.0) / (2 + lent))
    assert all(df <= 9 + BORROWED for _, df in borrow([1.0] * 200, [10] * 200))


def test_a_variant_that_scatters_far_more_keeps_its_own_variance_and_spoils_no_other():
    wild, *calm = borrow([1000.0, 1.0, 1.0, 1.0, 1.0], [4] * 5)
    assert wild == (1000.0, 3.0)
    lent = 1 / (1 / BORROWED + 1.5 / 9)
    assert calm == [pytest.approx((1.0, 3 + lent))] * 4


def test_a_variant_that_scatters_somewhat_more_lends_at_most_the_outlying_share():
    first, *_ = borrow([1.0, 1.0, 1.0, 6.0], [3] * 4)
    others = (1.0 + 1.0 + 5.0) / 3
    lent = 1 / (1 / BORROWED + 1.5 / 6)
    assert first == pytest.approx(((2 * 1.0 + lent * others) / (2 + lent), 2 + lent))


def test_holm_gives_the_values_of_rs_p_adjust():
    # R 4.3: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_judging_turned_round_turns_the_verdict_round():
    scores = {
        "a": Scores((0, 1, 2, 3), (crossed(1, 4, 50),)),
        "b": Scores((0, 1, 2, 3), (crossed(2, 4, 50, mean=3.0),)),
    }
    one, other = judge(scores, "a")["b"], judge(scores, "b")["a"]
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)
    assert one.beats == pytest.approx(1 - other.beats)
    assert (one.word, other.word) == ("better", "worse")


def test_only_common_seeds_are_paired_in_their_order():
    table = crossed(1, 4, 20)
    variant = Scores((7, 2, 5), (table[[3, 1, 2]],))
    part = paired_levels(variant, Scores((1, 2, 5, 7), (table,)))
    assert part.seeds == 3
    assert part.mean == pytest.approx(0)


def test_variants_without_a_common_seed_or_with_other_queries_are_refused():
    with pytest.raises(ProjheadsError, match="share no seed"):
        paired_levels(Scores((0,), (np.zeros((1, 3)),)), Scores((1,), (np.zeros((1, 3)),)))
    with pytest.raises(ProjheadsError, match="other queries"):
        paired_levels(Scores((0,), (np.zeros((1, 3)),)), Scores((0,), (np.zeros((1, 4)),)))


@pytest.mark.parametrize("comparisons", [1, 6])
@pytest.mark.parametrize("df", [2.0, 7.5, 60.0])
def test_the_smallest_difference_shown_has_a_power_of_80_percent(df, comparisons):
    shown = smallest_shown(0.7, df, comparisons=comparisons)
    critical = stats.t.ppf(1 - 0.05 / (2 * comparisons), df)
    assert stats.nct.sf(critical, df, shown / 0.7) == pytest.approx(0.8, abs=1e-3)


def test_the_chance_to_beat_counts_new_trials():
    difference, scatter = 1.0, 1.0
    generator = np.random.default_rng(0)
    seeds, queries = 400, 3
    tables = [np.repeat(generator.normal(mean, scatter, (seeds, 1)), queries, axis=1) for mean in (difference, 0.0)]
    scores = {name: Scores(tuple(range(seeds)), (table,)) for name, table in zip(("v", "b"), tables, strict=True)}
    wins = np.mean(tables[0][:, :1] > tables[1][:, :1].T)
    assert judge(scores, "b")["v"].beats == pytest.approx(wins, abs=0.02)


def test_the_bootstrap_is_that_of_scipy_where_there_is_one_seed():
    table = crossed(1, 1, 60)
    low, high = two_level_bootstrap([table], np.random.default_rng(0), draws=20000)
    expected = stats.bootstrap(
        (table[0],), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_the_bootstrap_draws_from_its_generator_alone():
    table = crossed(1, 4, 30)
    draws = [two_level_bootstrap([table], np.random.default_rng(9), draws=50) for _ in range(2)]
    assert draws[0] == draws[1]
