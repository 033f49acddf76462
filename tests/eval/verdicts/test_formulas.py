"""Every number of a verdict against the formulas of the documentation, which ``formulas`` writes out in loops."""

from statistics import median

import numpy as np
import pytest
from scipy import stats

from eval.verdicts import Scores, judge, judge_datasets
from eval.verdicts.difference import Estimate
from eval.verdicts.judge import words_of
from eval.verdicts.variance import differences
from tests.eval.verdicts.formulas import any_of, borrowed, difference, noise_of, spread, surest, tables


def unpaired():
    """Two data sets of different size, different numbers of seeds, one variant that scatters far more."""
    generator = np.random.default_rng(0)
    return {
        name: Scores(
            tuple(range(seeds)),
            tuple(tables(generator, seeds, queries, seed_sd=sd, gain=gain) for queries in (12, 30)),
        )
        for name, seeds, sd, gain in (
            ("u", 3, 0.1, 0.0),
            ("b", 5, 0.2, 0.0),
            ("v", 4, 0.15, 0.4),
            ("w", 6, 2.0, -0.9),
            ("x", 8, 0.1, 0.1),
        )
    }


def paired():
    """Seeds in a different order, and more of them than are common; one variant has its own start."""
    generator = np.random.default_rng(1)
    start = {seed: generator.normal(0, 0.5) for seed in range(9)}
    made = {}
    for name, seeds in (("b", (0, 1, 2, 3, 4, 8)), ("u", (4, 3, 2, 1, 0, 7)), ("v", (0, 1, 2, 3, 4))):
        luck = np.array([start[seed] for seed in seeds])[:, None]
        made[name] = Scores(seeds, (tables(generator, len(seeds), 25, seed_sd=0.2, start=luck),), "pca")
    made["own"] = Scores((0, 1, 2), (tables(generator, 3, 25, seed_sd=0.2, gain=0.5),))
    return made


def another_start():
    """Two variants share a start that the baseline does not have."""
    generator = np.random.default_rng(2)
    luck = generator.normal(0, 0.5, (5, 1))
    made = {"b": Scores(tuple(range(4)), (tables(generator, 4, 20, seed_sd=0.2),))}
    for name in "uvw":
        made[name] = Scores(tuple(range(5)), (tables(generator, 5, 20, seed_sd=0.2, start=luck),), "pca")
    return made | {"own": Scores((0, 1, 2), (tables(generator, 3, 20, seed_sd=0.3),))}


def single():
    """Among the others a variant whose scatter is not known, and one with two seeds."""
    made = unpaired()
    return made | {"s": made["w"].rows(0, 1), "t": made["x"].rows(0, 2)}


def many_queries():
    """Few seeds of one start: the queries bring so many degrees of freedom that Student's t shrinks."""
    generator = np.random.default_rng(3)
    luck = generator.normal(0, 0.5, (3, 1))
    options = {"seed_sd": 0.03, "query_sd": 0.1, "noise_sd": 0.1, "start": luck}
    return {
        name: Scores((0, 1, 2), (tables(generator, 3, 300, gain=gain, **options),), "pca")
        for name, gain in (("b", 0.0), ("v", 0.05))
    }


SCENES = {
    "unpaired": unpaired,
    "paired": paired,
    "another start": another_start,
    "single": single,
    "many queries": many_queries,
}
CASES = [(scene, name) for scene, make in SCENES.items() for name in make() if name != "b"]


@pytest.mark.parametrize(("scene", "name"), CASES)
def test_standard_errors_and_degrees_of_freedom_are_those_of_the_formulas(scene, name):
    scores = SCENES[scene]()
    mean, scopes, correlation = difference(scores, "b", name)
    found = differences(scores, "b")[name]
    for new_queries, (squared, df) in scopes.items():
        one = found.estimate(new_queries=new_queries)
        assert one.mean == pytest.approx(mean, rel=1e-9)
        assert one.standard_error**2 == pytest.approx(squared, rel=1e-9)
        assert one.df == pytest.approx(df, rel=1e-9)
        assert one.correlation == pytest.approx(correlation, rel=1e-9)


@pytest.mark.parametrize(("scene", "name"), [case for case in CASES if case[1] not in "st"])
def test_verdicts_are_those_of_the_formulas(scene, name):
    scores = SCENES[scene]()
    count = sum(len(one.seeds) >= 3 for one in scores.values()) - 1
    mean, scopes, correlation = difference(scores, "b", name)
    verdict = judge(scores, "b", resolution=0.7)[name]
    rho = min(correlation, 0.9)
    for new_queries, scope in ((False, verdict.these_queries), (True, verdict.new_queries)):
        z = surest(abs(mean), scopes, new_queries)
        assert scope.p_value == pytest.approx(2 * stats.norm.sf(z), rel=1e-6)
        assert scope.adjusted_p == pytest.approx(any_of(z, rho, count), rel=0.003, abs=1e-9)
        half = (scope.high - scope.low) / 2
        assert scope.low + half == pytest.approx(mean)
        # The interval's end is the difference whose corrected p-value is 5%.
        assert any_of(surest(half, scopes, new_queries), rho, count) == pytest.approx(0.05, rel=0.003)
        tail = stats.norm.sf(surest(0.7 - abs(mean), scopes, new_queries))
        assert scope.equivalent_p == pytest.approx(min(1.0, count * tail), rel=1e-6)


def test_nothing_is_surer_for_new_queries_than_for_these():
    scores = many_queries()
    mean, scopes, _ = difference(scores, "b", "v")
    sure = [stats.t.sf(abs(mean) / squared**0.5, df) for squared, df in scopes.values()]
    assert sure[1] < sure[0], "the scene is one in which the bound decides"
    for resolution in (None, 0.3):
        verdict = judge(scores, "b", resolution=resolution)["v"]
        for name in ("p_value", "adjusted_p", "low", "high", "equivalent_p"):
            assert getattr(verdict.new_queries, name) == getattr(verdict.these_queries, name)


def test_what_a_variant_takes_of_what_the_others_lend_is_the_formula():
    scores = single()
    scales = [
        max(one.tables[d].max() for one in scores.values()) - min(one.tables[d].min() for one in scores.values())
        for d in range(2)
    ]
    every = differences(scores, "b")
    spreads = {name: spread(one.tables, scales) for name, one in scores.items()}
    for name in "uvwx":
        others = [(v, df) for other, (v, df, _) in spreads.items() if other not in (name, "s")]
        o = sum(df * min(v, 5 * median(v for v, _ in others)) for v, df in others) / sum(df for _, df in others)
        own = every[name].own
        assert own.likeness == pytest.approx(min(1.0, o / spreads[name][0]) ** 3)
        assert (own.lenders, own.seeds) == (6, len(scores[name].seeds))
        noise = sum(noise_of(t, r) / t.shape[1] for t, r in zip(scores[name].tables, scales, strict=True)) / 4
        assert own.noise == pytest.approx(min(noise, own.variance))
        luck = sum(noise_of(t, r) / t.shape[1] for t, r in zip(scores["b"].tables, scales, strict=True)) / 4
        assert (every[name].shared.noise, every[name].shared.seeds) == (pytest.approx(luck), 5)
    assert (every["s"].own.variance, every["s"].own.df) == (0.0, 0.0)


def test_the_noise_of_a_shared_start_is_divided_like_its_variance():
    for one in differences(another_start(), "b").values():
        if one.start:
            share = one.start.variance / (one.own.variance + one.start.variance)
            assert one.start.noise == pytest.approx(share * (one.own.noise + one.start.noise))
            assert (one.start.seeds, one.start.df, one.own.lenders) == (5, 4.0, 2)


@pytest.mark.parametrize(("common", "is_paired"), [(2, False), (3, True)])
def test_three_common_seeds_make_a_pair(common, is_paired):
    table = np.random.default_rng(4).normal(0, 1, (4, 20))
    seeds = tuple(range(4 - common, 8 - common))
    scores = {"b": Scores((0, 1, 2, 3), (table,), "pca"), "v": Scores(seeds, (table + 0.1,), "pca")}
    one = differences(scores, "b")["v"]
    assert (one.paired, one.seeds) == (is_paired, common if is_paired else 4)
    assert one.ahead == (
        int((table[:common].mean(axis=1) + 0.1 > table[4 - common :].mean(axis=1)).sum()) if is_paired else None
    )


def test_a_seed_of_equal_scores_is_not_ahead():
    table = np.arange(12.0).reshape(3, 4) / 8
    scores = {
        "b": Scores((0, 1, 2), (table,), "pca"),
        "v": Scores((0, 1, 2), (table + np.array([[0.0], [0.5], [-0.5]]),), "pca"),
    }
    assert judge(scores, "b")["v"].ahead == 1


def test_scores_without_any_scatter_leave_nothing_to_chance():
    scores = {name: Scores((0, 1, 2), (np.zeros((3, 8)), np.zeros((3, 5)))) for name in "bv"}
    one = differences(scores, "b")["v"]
    assert (one.between, one.noise, one.query_df) == (0.0, 0.0, 11.0)
    assert one.estimate(new_queries=True) == Estimate(0.0, 0.0, 1.0, 0.0)
    assert judge(scores, "b")["v"].beats == 0.5


def test_too_few_seeds_have_no_p_value():
    scores = {name: one.rows(0, 2) for name, one in unpaired().items()}
    for verdict in judge(scores, "b", resolution=0.5).values():
        for scope in (verdict.these_queries, verdict.new_queries):
            assert (scope.p_value, scope.adjusted_p, scope.equivalent_p, scope.low) == (1.0, 1.0, None, None)


def test_words_and_p_values_at_their_bounds():
    assert Estimate(0.0, 0.0, 1.0).p_value() == 1.0
    assert Estimate(0.1, 0.0, 1.0).p_value() == Estimate(-0.1, 0.0, 1.0).p_value() == 0.0
    assert [Estimate(mean, 0.0, 1.0).equivalence_p(0.1) for mean in (0.1, -0.1, 0.09, -0.09)] == [1.0, 1.0, 0.0, 0.0]
    assert [words_of(mean, 0.0499, 0.0) for mean in (0.1, -0.1)] == ["better", "worse"]
    assert words_of(0.1, 0.05, None) == "no difference shown"
    assert [words_of(0.1, 0.05, equivalent) for equivalent in (0.0499, 0.05)] == ["equivalent", "undecided"]


def test_several_data_sets_are_several_times_as_many_comparisons():
    scores = unpaired()
    alone = {name: one.only(1) for name, one in scores.items()}
    for name, verdict in judge_datasets(scores, "b", ["x", "y"])["y"].items():
        mean, scopes, correlation = difference(alone, "b", name)
        adjusted = any_of(surest(abs(mean), scopes, True), correlation, 4)
        assert verdict.new_queries.adjusted_p == pytest.approx(min(1.0, 2 * adjusted), rel=0.003)
        end = surest(verdict.new_queries.high - mean, scopes, True)
        assert any_of(end, correlation, 4) == pytest.approx(0.025, rel=0.003)
        assert verdict.design.comparisons == 8


def test_the_chance_to_beat_is_that_of_the_predictive_distribution():
    scores = unpaired()
    verdict = judge(scores, "b")["v"]
    variances = {name: np.var(one.means(), ddof=1) for name, one in scores.items()}
    spreads = [(variances[name], len(scores[name].seeds) - 1) for name in scores]
    v, b = borrowed(2, spreads), borrowed(1, spreads)
    error = verdict.new_queries.standard_error
    expected = stats.t.cdf(verdict.difference / np.sqrt(error**2 + v[0] + b[0]), min(v[1], b[1]))
    assert verdict.beats == pytest.approx(expected, rel=1e-9)
