"""Factors, looks, the winner's luck, shares of the variance and trials astray: values against their formulas."""

from itertools import combinations
from statistics import mean, median, stdev, variance

import numpy as np
import pytest
from scipy import stats

from eval.verdicts import Scores, astray_trials, decide, effects, fresh, judge, race, winner
from eval.verdicts.looks import until
from eval.verdicts.pairs import compare_all, group_letters, variance_shares
from eval.verdicts.variance import differences, paired_difference
from tests.eval.verdicts.formulas import any_of, difference, freedom, noise_of, spread, surest, tables
from tests.eval.verdicts.made import constant, experiment
from tests.eval.verdicts.test_formulas import paired, unpaired

CELLS = {"a": (2, "no"), "b": (2, "yes"), "c": (3, "no"), "d": (3, "yes")}
LEVELS = {name: {"depth": depth, "residual": residual} for name, (depth, residual) in CELLS.items()}
# Main effects: half of each cell; the interaction: the difference of two differences.
WEIGHTS = {
    ("depth",): (-0.5, -0.5, 0.5, 0.5),
    ("residual",): (-0.5, 0.5, -0.5, 0.5),
    ("depth", "residual"): (1.0, -1.0, -1.0, 1.0),
}


# Which variants share a start.
STARTS = {"no start": "    ", "one start": "pppp", "two starts": "ppqq", "three of four": "ppp "}


def grid(starts):
    generator = np.random.default_rng(7)
    luck = {start: generator.normal(0, 0.4, (4, 1)) for start in "pq"} | {" ": 0.0}
    seeds = (3, 4, 5, 3) if starts == "no start" else (4, 4, 4, 4)
    made = {}
    for at, (name, start) in enumerate(zip(CELLS, STARTS[starts], strict=True)):
        options = {"seed_sd": 0.2 + 0.1 * at, "start": luck[start], "gain": 0.5 * at * at}
        found = tuple(tables(generator, seeds[at], queries, **options) for queries in (10, 25))
        made[name] = Scores(tuple(range(seeds[at])), found, start.strip() or None)
    return made


def scales_of(scores):
    every = [[one.tables[d] for one in scores.values()] for d in range(2)]
    return [max(t.max() for t in found) - min(t.min() for t in found) for found in every]


def queries_part(scores, weights, scales):
    """q of a contrast and its degrees of freedom."""
    parts, noise = [], 0.0
    least = min(len(one.seeds) for one in scores.values())
    for d, scale in enumerate(scales):
        every = [one.tables[d] for one in scores.values()]
        count = every[0].shape[1]
        by_query = sum(w * table.mean(axis=0) for w, table in zip(weights, every, strict=True))
        parts.append((max(variance(by_query.tolist()), scale**2 / 2 / (least * count + 1)) / count, count - 1))
        noise += sum(w**2 * noise_of(t, scale) / len(t) for w, t in zip(weights, every, strict=True)) / count
    total = sum(one for one, _ in parts)
    return max(0.0, (total - noise) / 4), total**2 / sum(one**2 / df for one, df in parts)


def seeds_parts(scores, weights, scales):
    """The squared standard errors that seeds give a contrast, each with its degrees of freedom."""
    every = list(zip(scores.values(), weights, strict=True))
    alone = [
        (w**2 * v / (df + 1), df)
        for one, w in every
        if not one.start_group
        for v, df, _ in [spread(one.tables, scales)]
    ]
    total = sum(v for v, _ in alone)
    found = [(total, total**2 / sum(v**2 / df for v, df in alone))] if alone else []
    for start in sorted({one.start_group for one, _ in every} - {None}):
        group = [(one, w) for one, w in every if one.start_group == start]
        means, factors = np.array([spread(one.tables, scales)[2] for one, _ in group]), np.array([w for _, w in group])
        floors = [
            sum(noise_of(t, r) / t.shape[1] for t, r in zip(one.tables, scales, strict=True)) / 4 for one, _ in group
        ]
        own = max(variance((factors @ means).tolist()), float(factors**2 @ floors))
        course, n = means.mean(axis=0), len(group)
        terms = [(sum(factors) ** 2 * variance(course.tolist()), 3)]
        terms += [
            (w**2 * variance((row - course).tolist()) * n / (n - 1), 3) for w, row in zip(factors, means, strict=True)
        ]
        model = sum(v for v, _ in terms)
        g = min(1, model / own) ** 3 / (1 / 5 + 1 / (model**2 / sum(v**2 / df for v, df in terms)))
        found.append(((3 * own + g * model) / (3 + g) / 4, 3 + g))
    return found


@pytest.mark.parametrize("starts", STARTS)
def test_effects_are_contrasts_with_the_standard_errors_of_the_formulas(starts):
    scores = grid(starts)
    scales = scales_of(scores)
    found = effects(scores, LEVELS)
    assert [one.factors for one in (*found.main, *found.interactions)] == list(WEIGHTS)
    assert found.trials == sum(len(one.seeds) for one in scores.values())
    means = [one.means().mean() for one in scores.values()]
    for effect in (*found.main, *found.interactions):
        weights = WEIGHTS[effect.factors]
        seeds, scopes = seeds_parts(scores, weights, scales), {}
        for scope, terms in (
            (effect.these_queries, seeds),
            (effect.new_queries, [*seeds, queries_part(scores, weights, scales)]),
        ):
            error, df = np.sqrt(sum(v for v, _ in terms)), freedom(terms)
            contrast = float(np.dot(weights, means))
            assert scope.difference == pytest.approx(contrast)
            assert scope.standard_error == pytest.approx(error, rel=1e-9)
            assert scope.df == pytest.approx(df, rel=1e-9)
            scopes[scope is effect.new_queries] = (error**2, df)
            z = surest(abs(contrast), scopes, scope is effect.new_queries)
            assert scope.p_value == pytest.approx(2 * stats.norm.sf(z), rel=1e-6)
            assert scope.adjusted_p == pytest.approx(1 - (1 - scope.p_value) ** 3, rel=1e-3)
            half = (scope.high - scope.low) / 2
            assert scope.low + half == pytest.approx(contrast)
            z = surest(half, scopes, scope is effect.new_queries)
            assert 2 * stats.norm.sf(z) == pytest.approx(1 - 0.95 ** (1 / 3), rel=1e-6)


@pytest.mark.parametrize("start", [None, "pca"])
def test_a_grid_without_any_scatter_has_no_effects(start):
    scores = {name: constant([0.5, 0.5, 0.5], start_group=start) for name in CELLS}
    found = effects(scores, LEVELS)
    for effect in (*found.main, *found.interactions):
        for scope in (effect.these_queries, effect.new_queries):
            assert (scope.difference, scope.p_value, scope.word) == (0.0, 1.0, "no difference shown")
            assert scope.standard_error == pytest.approx(0.0, abs=1e-12)
        assert effect.these_queries.df == 1.0


def test_effects_of_three_levels_are_differences_of_means_to_the_first():
    cells = {f"{depth} {width}": {"depth": depth, "width": width} for depth in (2, 3, 4) for width in (8, 16, 32)}
    generator = np.random.default_rng(8)
    scores = {name: constant(generator.normal(0, 1, 3)) for name in cells}
    means = {(cell["depth"], cell["width"]): scores[name].means().mean() for name, cell in cells.items()}
    found = effects(scores, cells)
    for effect in found.main:
        at = 0 if effect.factors == ("depth",) else 1
        level, first = ([m for key, m in means.items() if key[at] == x[0]] for x in (effect.levels, effect.against))
        assert effect.these_queries.difference == pytest.approx(mean(level) - mean(first))
        expected = [
            (
                other,
                fixed,
                means[(level_, fixed) if at == 0 else (fixed, level_)] - means[(2, fixed) if at == 0 else (fixed, 8)],
            )
            for other, values in ((("width", (8, 16, 32)), ("depth", (2, 3, 4)))[at],)
            for fixed in values
            for level_ in effect.levels
        ]
        assert [(*key, pytest.approx(value)) for *key, value in expected] == list(effect.simple)
    assert [one.levels for one in found.interactions] == [(3, 16), (3, 32), (4, 16), (4, 32)]
    for one in found.interactions:
        depth, width = one.levels
        expected = means[depth, width] - means[2, width] - means[depth, 8] + means[2, 8]
        assert one.these_queries.difference == pytest.approx(expected)


def test_simple_effects_are_the_differences_of_cells():
    means = {name: one.means().mean() for name, one in grid("no start").items()}
    depth, residual = effects(grid("no start"), LEVELS).main
    assert depth.simple == (
        ("residual", "no", pytest.approx(means["c"] - means["a"])),
        ("residual", "yes", pytest.approx(means["d"] - means["b"])),
    )
    assert residual.simple == (
        ("depth", 2, pytest.approx(means["b"] - means["a"])),
        ("depth", 3, pytest.approx(means["d"] - means["c"])),
    )


def test_effects_of_an_incomplete_grid_are_differences_of_the_cells_that_there_are():
    means = {"a": 5.0, "b": 6.5, "c": 5.75}
    scores = {name: constant([value, value + 0.01, value - 0.01]) for name, value in means.items()}
    depth, residual = effects(scores, {name: LEVELS[name] for name in means}).main
    assert (depth.these_queries.difference, residual.these_queries.difference) == pytest.approx((0.75, 1.5))
    assert depth.simple == residual.simple == ()


def test_a_group_of_one_start_needs_three_common_seeds():
    """With fewer the variants count as independent."""
    scores = grid("one start")
    apart = {
        name: Scores(tuple(seed + 10 * at for seed in one.seeds), one.tables, one.start_group)
        for at, (name, one) in enumerate(scores.items())
    }
    alone = {name: Scores(one.seeds, one.tables) for name, one in scores.items()}
    assert effects(apart, LEVELS) == effects(alone, LEVELS)
    three = {name: Scores((0, 1, 2, 3 + at), s.tables, "pca") for at, (name, s) in enumerate(scores.items())}
    assert effects(three, LEVELS) != effects(alone, LEVELS)


@pytest.mark.parametrize("new_queries", [True, False])
@pytest.mark.parametrize(("looks", "most"), [([3], 9), ([3, 5], 9), ([5], 5), ([5], 4), ([3, 4], None), ([4], None)])
def test_decisions_are_ordinary_ones_at_a_stricter_critical_value(looks, most, new_queries):
    scores = {name: one for name, one in paired().items() if name in "buv"}
    for name, decision in decide(scores, "b", looks, most=most, resolution=0.6, new_queries=new_queries).items():
        # What is decided early stays decided.
        seen = until(scores, looks[decision.look])
        mean_, scopes, rho = difference(seen, "b", name)
        seeds = decision.seeds
        here = scopes[False][0]
        q = scopes[new_queries][0] - here
        if most is None:
            factor = 1.4 if decision.look else 1.0
        else:
            factor = 1.15 * min(1.0, (here * seeds / most + q) / (here + q)) ** -0.25
        rho = min(rho, 0.9)
        assert decision.adjusted_p == pytest.approx(
            any_of(surest(abs(mean_), scopes, new_queries, factor), rho, 2), rel=3e-3
        )
        half = (decision.high - decision.low) / 2
        assert decision.low + half == pytest.approx(mean_)
        assert any_of(surest(half, scopes, new_queries, factor), rho, 2) == pytest.approx(0.05, rel=3e-3)
        tail = stats.norm.sf(surest(0.6 - abs(mean_), scopes, new_queries, factor))
        assert decision.equivalent_p == pytest.approx(min(1.0, 2 * tail), rel=1e-6)
        assert decision.design.comparisons == 2


def test_looks_at_several_data_sets_are_several_times_as_many_comparisons():
    scores = {name: one for name, one in paired().items() if name in "buv"}
    one, both = (decide(scores, "b", [4], most=9, resolution=0.9, families=n)["u"] for n in (1, 2))
    assert both.adjusted_p == pytest.approx(min(1, 2 * one.adjusted_p))
    assert both.equivalent_p == pytest.approx(min(1, 2 * one.equivalent_p))
    assert both.high - both.low > one.high - one.low
    assert both.design.comparisons == 4


def test_a_p_value_below_the_smallest_number_is_zero():
    scores = {name: constant([place] * 60, queries=2000) for place, name in enumerate("bv")}
    one = decide(scores, "b", [60], most=90, resolution=0.5)["v"]
    assert (one.word, one.adjusted_p, one.equivalent_p) == ("better", 0.0, 1.0)


@pytest.mark.parametrize("new_queries", [True, False])
def test_a_variant_leaves_a_race_at_five_percent(new_queries):
    generator = np.random.default_rng(3)
    for gap in np.linspace(0.2, 2.0, 12):
        scores = {
            name: Scores(tuple(range(4)), (tables(generator, 4, 40, seed_sd=0.3, gain=gain),))
            for name, gain in (("a", 0.0), ("b", gap), ("c", gap))
        }
        order = sorted(scores, key=lambda name: -scores[name].means().mean())
        expected = []
        for name in order[1:]:
            mean_, scopes, _ = difference(scores, order[0], name)
            squared, df = scopes[new_queries]
            if stats.t.cdf(mean_ / np.sqrt(squared), df) < 0.05:
                expected.append(name)
        found = race(scores, [4], new_queries=new_queries)
        assert found.lost == dict.fromkeys(expected, 0)
        assert found.survivors == tuple(name for name in order if name not in expected)
        assert found.chosen_with == dict.fromkeys("abc", 4 if expected else 0)


def test_a_race_is_run_on_these_queries_unless_asked_otherwise():
    """The seeds agree, and few queries were asked."""
    scores = experiment(4, {"a": 0.0, "b": 0.3}, seeds=10, queries=20, seed_sd=0.01, query_sd=1.5, noise_sd=0.1)
    assert race(scores, [10]).survivors == race(scores, [10], new_queries=False).survivors == ("b",)
    assert race(scores, [10], new_queries=True).survivors == ("b", "a")


def test_looks_with_fewer_than_three_seeds_decide_nothing():
    scores = {name: constant([place, place + 0.01, place - 0.01, place]) for place, name in enumerate("bv")}
    for look in (2, {"b": 2, "v": 4}, {"b": 4, "v": 2}):
        assert race(scores, [look]).lost == {}
        one = decide(scores, "b", [look], most=4)["v"]
        assert (one.word, one.adjusted_p, one.low, one.design, one.decided) == ("too few seeds", 1.0, None, None, False)
    for look in (3, {"b": 3, "v": 4}, {"b": 4, "v": 3}):
        found = race(scores, [2, look])
        assert (found.lost, found.survivors) == ({"b": 1}, ("v",))
        assert found.chosen_with == (dict.fromkeys("bv", look) if isinstance(look, int) else look)
        one = decide(scores, "b", [2, look], most=4)["v"]
        assert (one.word, one.look, one.decided) == ("better", 1, True)


def test_seeds_that_come_after_the_used_ones_are_fresh():
    scores = {name: constant([0.1, 0.2, 0.3]) for name in "abc"}
    rest = fresh(scores, {"a": 1, "b": 3})
    assert {name: one.seeds for name, one in rest.items()} == {"a": (1, 2), "c": (0, 1, 2)}


def chances(one, *, new_queries):
    """u and w: what is the variant's own, its seeds and half of q, and what is the baseline's."""
    half = one.query_part / 2 if new_queries else 0.0
    if one.fixed:
        return half, half
    seeds = [part.variance / part.seeds for part in (one.own, *([one.start] if one.start else []))]
    return sum(seeds) + half, one.shared.variance / one.shared.seeds + half


def shrunk(every, *, new_queries):
    """The winner's difference once luck is taken off, from each variant's."""
    u, w = (mean(x) for x in zip(*(chances(one, new_queries=new_queries) for one in every.values()), strict=True))
    values, count = [one.mean for one in every.values()], len(every)
    top = max(values)
    if count == 1:
        return top * max(0.0, 1 - (u + w) / top**2)
    f = max(0.0, 1 - max(1, count - 2) / (count - 1) * u / variance(values))
    t, m = f * variance(values), mean(values)
    of_mean = max(t / (t + u + count * w), 1 - (u / count + w) / m**2)
    return min(m * of_mean + f * (top - m), max(top, 0.0))


@pytest.mark.parametrize("new_queries", [True, False])
@pytest.mark.parametrize("names", ["ub", "vb", "xvb", "xwvb", "uvwxb"])
def test_the_winners_luck_is_taken_off_by_the_formula(names, new_queries):
    scores = {name: one for name, one in unpaired().items() if name in names}
    found = winner(judge(scores, "b"), new_queries=new_queries)
    every = differences(scores, "b")
    best = max(every, key=lambda name: every[name].mean)
    assert (found.name, found.difference, found.compared) == (best, pytest.approx(every[best].mean), len(names) - 1)
    assert found.shrunk == pytest.approx(shrunk(every, new_queries=new_queries), rel=1e-9)


def test_equal_gains_are_not_taken_for_luck():
    generator = np.random.default_rng(3)
    gains = {"b": 0.0, "u": 2.0, "v": 2.0}
    scores = {
        name: Scores(tuple(range(6)), (tables(generator, 6, 40, seed_sd=0.2, gain=gain),))
        for name, gain in gains.items()
    }
    found = winner(judge(scores, "b"), new_queries=False)
    assert 0.7 * found.difference < found.shrunk < found.difference


@pytest.mark.parametrize("names", ["bv", "bvw", "bvx", "buvwx"])
def test_a_clear_winner_is_shrunk_a_little(names):
    generator = np.random.default_rng(5)
    gains = {"b": 0.0, "u": 0.5, "v": 3.0, "w": -2.0, "x": 1.0}
    made = {
        name: Scores(tuple(range(4)), (tables(generator, 4, 30, seed_sd=0.3, gain=gain),))
        for name, gain in gains.items()
    }
    scores = {name: made[name] for name in names}
    every = differences(scores, "b")
    expected = shrunk(every, new_queries=True)
    assert 0.5 * every["v"].mean < expected < every["v"].mean
    assert winner(judge(scores, "b")).shrunk == pytest.approx(expected, rel=1e-9)
    single = {name: one.rows(0, 1) for name, one in scores.items()}
    expected = shrunk(differences(single, "b"), new_queries=True)
    assert winner(judge(single, "b")).shrunk == pytest.approx(expected, rel=1e-9)


def test_a_winner_that_is_worse_than_the_baseline_is_not_raised_above_it():
    generator = np.random.default_rng(6)
    gains = {"b": 3.0, "u": 0.0, "v": 0.02, "w": 0.01}
    scores = {n: Scores((0, 1, 2), (tables(generator, 3, 30, seed_sd=0.9, gain=gain),)) for n, gain in gains.items()}
    every = differences(scores, "b")
    found = winner(judge(scores, "b"))
    assert max(one.mean for one in every.values()) < -1
    assert found.shrunk == pytest.approx(shrunk(every, new_queries=True), rel=1e-9)
    assert found.shrunk <= 0


def test_equal_variants_have_a_winner_by_nothing():
    equal = dict.fromkeys("bvw", unpaired()["b"])
    assert winner(judge(equal, "b")).shrunk == 0.0
    assert winner(judge({name: equal[name] for name in "bv"}, "b")).shrunk == 0.0


def test_two_fixed_models_have_a_winner_on_new_queries_only():
    scores = {name: one.rows(0, 1) for name, one in unpaired().items()}
    verdicts = judge(scores, "b")
    assert winner(verdicts, new_queries=False) is None
    assert winner(verdicts).compared == 4
    assert winner({}) is None


def test_pairs_are_of_the_better_variant_and_the_worse_one():
    scores = unpaired()
    pairs = compare_all(scores)
    assert list(pairs.names) == sorted(scores, key=lambda name: -scores[name].means().mean())
    assert set(pairs.differences) == set(combinations(pairs.names, 2))
    for (first, second), one in pairs.differences.items():
        assert one.mean == pytest.approx(scores[first].means().mean() - scores[second].means().mean())
        assert one.mean > 0


def test_shares_of_the_variance_are_the_formulas():
    scores = experiment(3, {"a": 0.0, "b": 1.0, "c": 3.0, "d": 2.0}, seeds=4, queries=40, query_sd=0.5)
    scores = {
        name: Scores(one.seeds, (one.tables[0], one.tables[0][:, :9] + place), None)
        for place, (name, one) in enumerate(scores.items())
    }
    heads, rates = {"a": "x", "b": "x", "c": "y", "d": "z"}, {"a": 1.0, "b": 2.0, "c": 1.0, "d": 1.0}
    shares = variance_shares(scores, compare_all(scores), heads, rates)

    def between(pairs):
        found = []
        for first, second in pairs:
            mean_, scopes, _ = difference(scores, second, first)
            found.append(mean_**2 - scopes[True][0])
        return (mean(found) / 2) ** 0.5

    apart = [pair for pair in combinations("abcd", 2) if pair != ("a", "b")]
    ordered = sorted(scores, key=lambda name: -scores[name].means().mean())
    best_first = [tuple(sorted(pair, key=ordered.index)) for pair in apart]
    assert shares.head == pytest.approx(between(best_first), rel=1e-9)
    assert shares.learning_rate == pytest.approx(between([tuple(sorted("ab", key=ordered.index))]), rel=1e-9)
    assert shares.seed == pytest.approx(mean(variance(one.means().tolist()) for one in scores.values()) ** 0.5)
    by_query = [sum(variance(t.mean(axis=0).tolist()) / t.shape[1] for t in one.tables) / 4 for one in scores.values()]
    assert shares.queries == pytest.approx(mean(by_query) ** 0.5)
    q = []
    for pair in combinations(ordered, 2):
        _, scopes, _ = difference(scores, pair[1], pair[0])
        q.append(scopes[True][0] - scopes[False][0])
    assert shares.queries_paired == pytest.approx(mean(q) ** 0.5)
    same = dict.fromkeys(heads, 1.0)
    assert variance_shares(scores, compare_all(scores), heads, same).learning_rate is None
    assert variance_shares(scores, compare_all({"a": scores["a"]}), heads, rates) is None


def test_variants_that_differ_by_less_than_chance_have_no_share():
    scores = {name: Scores((0, 1, 2), (unpaired()["u"].tables[0],)) for name in "abc"}
    shares = variance_shares(
        scores, compare_all(scores), {"a": "x", "b": "x", "c": "y"}, {"a": 1.0, "b": 2.0, "c": 1.0}
    )
    assert (shares.head, shares.learning_rate) == (0.0, 0.0)
    one_head = variance_shares(scores, compare_all(scores), dict.fromkeys("abc", "x"), dict.fromkeys("abc", 1.0))
    assert (one_head.head, one_head.learning_rate) == (0.0, None)


def test_groups_of_other_pairs_are_corrected_by_holm():
    for random in range(8):
        scores = experiment(random, {"base": 0.0, "u": 0.0, "v": 0.75, "w": 0.9}, seeds=3, queries=40)
        pairs = compare_all(scores)
        letters = group_letters(pairs, judge(scores, "base"), "base")
        p_values = {}
        for pair in combinations([name for name in pairs.names if name != "base"], 2):
            mean_, scopes, _ = difference(scores, pair[1], pair[0])
            p_values[pair] = 2 * stats.norm.sf(surest(abs(mean_), scopes, True))
        apart = True
        for place, pair in enumerate(sorted(p_values, key=p_values.__getitem__)):
            apart = apart and (3 - place) * p_values[pair] < 0.05
            assert (not set(letters[pair[0]]) & set(letters[pair[1]])) == apart


def test_only_variants_with_a_verdict_count_among_the_comparisons():
    scores = unpaired()
    scores["w"] = scores["w"].rows(0, 2)
    scores["x"] = scores["x"].rows(0, 1)
    verdicts = judge(scores, "b")
    for name in "uv":
        mean_, scopes, rho = difference(scores, "b", name)
        z = surest(abs(mean_), scopes, True)
        assert verdicts[name].new_queries.adjusted_p == pytest.approx(any_of(z, rho, 2), rel=3e-3)
        assert verdicts[name].design.comparisons == 2
    assert (verdicts["w"].word, verdicts["x"].word, verdicts["x"].beats) == ("too few seeds", "too few seeds", None)
    assert verdicts["w"].beats is not None
    single = {name: one.rows(0, 1) for name, one in scores.items()}
    for name, verdict in judge(single, "b").items():
        p_value = verdict.new_queries.p_value
        assert verdict.new_queries.adjusted_p == pytest.approx(any_of(stats.norm.isf(p_value / 2), 0.0, 4), rel=1e-3)
        assert (verdict.fixed, verdict.smallest_shown_here, verdict.design.comparisons) == (True, None, 4), name


def test_a_paired_difference_of_the_same_trials_has_the_standard_error_of_its_table():
    generator = np.random.default_rng(9)
    one, other = tables(generator, 4, 12, seed_sd=0.2), tables(generator, 4, 12, seed_sd=0.2)
    found = paired_difference(Scores((0, 1, 2, 3), (one,)), Scores((3, 2, 1, 0), (other[::-1],)))
    table = one - other
    scale = max(one.max(), other.max()) - min(one.min(), other.min())
    noise = noise_of(table, scale)
    q = max(0.0, max(variance(table.mean(axis=0).tolist()), scale**2 / 2 / 49) / 12 - noise / 48)
    squared = max(variance(table.mean(axis=1).tolist()), noise / 12) / 4 + q
    assert found.mean == pytest.approx(table.mean())
    assert found.standard_error == pytest.approx(squared**0.5, rel=1e-9)
    assert found.df == pytest.approx(freedom([(squared - q, 3), (q, 11)]), rel=1e-9)


MEANS = {"a": [0.50, 0.51, 0.52, 0.53, 0.49, 0.50], "b": [0.52, 0.51, 0.47, 0.53, 0.50, 0.54], "c": [0.6, 0.61, 0.59]}


def test_a_trial_astray_lies_more_than_five_scales_from_the_median_of_its_fellows():
    def distance(values, place):
        rest = values[:place] + values[place + 1 :]
        return abs(values[place] - median(rest)), stdev(rest), median(rest)

    for moved in np.linspace(0.3, 0.7, 41):
        means = MEANS | {"a": [*MEANS["a"][:3], float(moved), *MEANS["a"][4:]]}
        every = [distance(values, place)[0] for values in means.values() for place in range(len(values))]
        gap, own, middle = distance(means["a"], 3)
        deviations = gap / max(1.4826 * median(every), own)
        found = [one for one in astray_trials({n: constant(v) for n, v in means.items()}) if one.variant == "a"]
        assert [one.seed for one in found] == ([3] if deviations > 5 else [])
        for one in found:
            assert (one.score, one.median, one.deviations) == pytest.approx((moved, middle, deviations))


def test_at_most_a_third_of_a_variants_seeds_is_astray_and_the_furthest_comes_first():
    calm = {"a": [0.5, 0.501, 0.499, 0.5005, 0.4995, 0.5], "b": [0.5, 0.501, 0.499, 0.5, 0.5, 0.5]}
    wild = calm | {"b": [0.5, 0.9, 0.5, 0.501, 0.8, 0.499]}
    wild |= {"c": [0.5, 0.501, 0.499, 0.5, 0.501, 0.499]}
    found = astray_trials({name: constant(values) for name, values in wild.items()})
    # While both are there, each makes the scale of the other too large to be astray.
    assert found == []
    generator = np.random.default_rng(0)
    many = {name: generator.normal(0.5, 0.001, 9).tolist() for name in "abc"}
    many["c"][2], many["c"][7] = 0.9, 0.5 + 0.06
    found = astray_trials({name: constant(values) for name, values in many.items()})
    assert [(one.variant, one.seed) for one in found] == [("c", 2), ("c", 7)]
    assert found[1].median == pytest.approx(median([v for at, v in enumerate(many["c"]) if at not in (2, 7)]))


def test_six_trials_of_variants_with_three_seeds_are_enough():
    values = [0.5, 0.501, 0.499, 0.5, 0.501, 0.9]
    (found,) = astray_trials({"a": constant(values)})
    assert (found.variant, found.seed, found.median) == ("a", 5, 0.5)
    # Two seeds do not count among the six.
    assert astray_trials({"a": constant(values[1:]), "b": constant([0.5, 0.501])}) == []
    (found,) = astray_trials({"a": constant([0.5, 0.5, 0.5, 0.5, 0.6, 0.5])})
    assert (found.seed, found.deviations) == (4, np.inf)
    assert astray_trials({name: constant([0.5, 0.5, 0.5]) for name in "ab"}) == []
