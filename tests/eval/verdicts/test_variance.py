import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.verdicts import Scores, judge
from eval.verdicts.difference import degrees_of_freedom
from eval.verdicts.variance import borrow, differences, lent, take_apart
from projheads.errors import ProjheadsError
from tests.eval.verdicts.made import constant, experiment


def slow_anova(table):
    """The two-way analysis of variance written out, cell by cell."""
    seeds, queries = table.shape
    grand = table.sum() / table.size
    rest = 0.0
    for s in range(seeds):
        for q in range(queries):
            rest += (table[s, q] - table[s].mean() - table[:, q].mean() + grand) ** 2
    ms_query = sum(seeds * (table[:, q].mean() - grand) ** 2 for q in range(queries)) / (queries - 1)
    return ms_query, rest / ((seeds - 1) * (queries - 1))


@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(2, 40))
def test_the_noise_and_the_queries_part_equal_the_analysis_of_variance_written_out(random, seeds, queries):
    generator = np.random.default_rng(random)
    table = (
        generator.normal(0, 1, (seeds, 1))
        + generator.normal(0, 2, (1, queries))
        + generator.normal(0, 1, (seeds, queries))
    )
    ms_query, ms_noise = slow_anova(table)
    assert take_apart(table)[2] == pytest.approx(ms_noise)
    one = paired_to_zeros(table)
    half_a_flip = 0.5 * (max(table.max(), 0.0) - min(table.min(), 0.0)) ** 2 / (table.size + 1)
    assert one.noise == pytest.approx(max(ms_noise, half_a_flip) / table.size)
    assert one.between == pytest.approx(max(ms_query / seeds, half_a_flip) / queries)


def paired_to_zeros(table):
    """The difference of a table to zeros, paired by seed."""
    seeds = tuple(range(len(table)))
    scores = {"b": Scores(seeds, (np.zeros_like(table),), "x"), "v": Scores(seeds, (table,), "x")}
    return differences(scores, "b")["v"]


def test_the_squared_standard_error_of_unpaired_variants_is_unbiased():
    truth = (0.5**2 + 1.0**2 / 30) * (1 / 4 + 1 / 6) + 2 * 1.5**2 / 30
    estimated, means = [], []
    for random in range(3000):
        scores = experiment(
            random, {"b": 0.0, "v": 0.0}, seeds=4, baseline_seeds=6, queries=30, seed_sd=0.5, query_sd=1.5
        )
        one = differences(scores, "b")["v"]
        own = scores["v"].means().var(ddof=1) / 4 + scores["b"].means().var(ddof=1) / 6
        estimated.append(own + one.between - one.noise)
        means.append(one.mean)
    assert np.mean(estimated) == pytest.approx(truth, rel=0.02)
    assert np.var(means) == pytest.approx(truth, rel=0.08)


def test_every_seed_of_both_counts_where_they_share_no_start():
    base, variant = constant([0.5, 0.52, 0.48, 0.51, 0.5]), constant([0.6, 0.61, 0.62], seeds=(7, 8, 9))
    one = differences({"b": base, "v": variant}, "b")["v"]
    assert (one.seeds, one.baseline_seeds, one.paired, one.ahead) == (3, 5, False, None)
    assert one.mean == pytest.approx(0.61 - 0.502)
    assert one.shared.variance == pytest.approx(np.var([0.5, 0.52, 0.48, 0.51, 0.5], ddof=1), rel=1e-3)


def test_a_single_paired_variant_of_which_only_seeds_vary_is_scipys_paired_t():
    generator = np.random.default_rng(3)
    start = generator.normal(0, 0.1, 5)
    variant, base = 0.6 + start + generator.normal(0, 0.01, 5), 0.5 + start + generator.normal(0, 0.01, 5)
    scores = {"v": constant(variant, start_group="pca"), "b": constant(base, start_group="pca")}
    expected = stats.ttest_rel(variant, base)
    verdict = judge(scores, "b")["v"]
    assert verdict.these_queries.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (verdict.these_queries.low, verdict.these_queries.high) == pytest.approx((interval.low, interval.high))
    assert (verdict.ahead, verdict.seeds) == (5, 5)


def test_paired_variants_that_share_everything_with_the_baseline_have_its_seeds_degrees_of_freedom():
    """All differences are the baseline's luck: borrowing between them gives nothing."""
    luck = np.array([0.03, -0.01, 0.02, -0.04])
    scores = {"b": constant(0.5 - luck, start_group="x")}
    scores |= {name: constant(np.full(4, 0.5), start_group="x") for name in "uvw"}
    one = differences(scores, "b")["v"]
    assert one.own.variance == pytest.approx(0.0, abs=1e-9)
    assert one.shared.variance == pytest.approx(luck.var(ddof=1), rel=1e-3)
    assert one.estimate(new_queries=False).df == pytest.approx(3.0)


def test_variants_of_different_groups_are_not_paired():
    scores = {"b": constant([0.5, 0.6, 0.7]), "v": constant([0.5, 0.6, 0.7])}
    assert not differences(scores, "b")["v"].paired
    scores = {"b": constant([0.5, 0.6, 0.7], start_group="x"), "v": constant([0.5, 0.6, 0.7], start_group="y")}
    assert not differences(scores, "b")["v"].paired


def test_only_common_seeds_are_paired_in_their_order():
    table = np.random.default_rng(1).normal(0, 1, (4, 20))
    scores = {"v": Scores((7, 2, 5), (table[[3, 1, 2]],), "x"), "b": Scores((1, 2, 5, 7), (table,), "x")}
    one = differences(scores, "b")["v"]
    assert (one.seeds, one.paired) == (3, True)
    assert one.mean == pytest.approx(0)


def test_borrowing_follows_the_formula():
    # d s^2 and g o: d = 2, others' mean 1 with 4 degrees of freedom, G = 4 at three seeds, (1 / 1.5)^3 of it taken.
    (first, df, likeness), *_ = borrow([1.5, 1.0, 1.0], [2, 2, 2])
    g = (1 / 1.5) ** 3 / (1 / 4 + 1 / 4)
    assert likeness == pytest.approx((1 / 1.5) ** 3)
    assert df == pytest.approx(2 + g)
    assert first == pytest.approx((2 * 1.5 + g) / (2 + g))


def test_what_is_lent_grows_from_four_to_six_degrees_of_freedom():
    assert [lent(seeds, float("inf")) for seeds in (2, 3, 4, 5, 20)] == [4, 4, 5, 6, 6]
    assert lent(3, 4.0) == pytest.approx(2.0)
    assert lent(3, 0.0) == 0.0


def test_the_others_count_for_at_most_five_medians_and_the_baseline_borrows_nothing():
    (first, df, _), *_, base = borrow([1.0, 1.0, 1.0, 100.0, 7.0], [3] * 5, lenders=[4])
    others = (1 + 1 + 5 * 4 + 7) / 4  # The median is 4.
    g = 1 / (1 / 5 + 1 / 12)
    assert first == pytest.approx((3 * 1.0 + g * others) / (3 + g))
    assert df == pytest.approx(3 + g)
    assert base[:2] == (7.0, 3.0)


def test_a_variant_that_scatters_far_more_keeps_its_variance():
    wild = borrow([100.0, 1.0, 1.0, 1.0], [4] * 4)[0]
    assert wild[0] == pytest.approx(100.0, rel=1e-3)
    assert wild[1] == pytest.approx(4.0, rel=1e-3)
    assert borrow([2.0], [4]) == [(2.0, 4.0, 1.0)]


def test_degrees_of_freedom_lie_between_the_harmonic_mean_and_satterthwaites():
    terms = [(1.0, 2.0), (3.0, 8.0)]
    harmonic, satterthwaite = 4 / (1 / 2 + 3 / 8), 16 / (1 / 2 + 9 / 8)
    assert degrees_of_freedom(terms) == pytest.approx(harmonic ** (2 / 3) * satterthwaite ** (1 / 3))
    assert degrees_of_freedom([(2.0, 5.0)]) == pytest.approx(5.0)


def test_data_sets_weigh_the_same_whatever_their_number_of_queries():
    generator = np.random.default_rng(0)
    tables = (generator.normal(0, 1, (3, 5)), generator.normal(0, 1, (3, 500)))
    scores = {"b": Scores((0, 1, 2), tables), "v": Scores((0, 1, 2), (tables[0] + 1.0, tables[1]))}
    assert differences(scores, "b")["v"].mean == pytest.approx(0.5)


def test_different_queries_are_refused():
    with pytest.raises(ProjheadsError, match="different queries"):
        differences({"b": Scores((0,), (np.zeros((1, 3)),)), "v": Scores((0,), (np.zeros((1, 4)),))}, "b")
