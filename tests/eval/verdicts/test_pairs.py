from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import calibration
from eval.verdicts import Scores, judge
from eval.verdicts.pairs import compare_all, group_letters, letters_of, variance_shares
from eval.verdicts.power import Design, fit_design
from eval.verdicts.variance import paired_levels
from tests.eval.report.factory import Plan, make_experiment


def experiment(random, means, *, seeds=5, queries=200, seed_sd=0.3, query_sd=0.0, noise_sd=1.0):
    generator = np.random.default_rng(random)
    difficulty = generator.normal(0, 3, queries)
    return {
        name: Scores(
            tuple(range(seeds)),
            (
                mean
                + difficulty
                + generator.normal(0, seed_sd, (seeds, 1))
                + generator.normal(0, query_sd, (1, queries))
                + generator.normal(0, noise_sd, (seeds, queries)),
            ),
        )
        for name, mean in means.items()
    }


@given(st.lists(st.sampled_from(list(combinations("abcdefg", 2))), unique=True))
def test_two_names_share_a_letter_exactly_where_they_do_not_differ(differ):
    letters = letters_of("abcdefg", differ)
    for first, second in combinations("abcdefg", 2):
        assert bool(set(letters[first]) & set(letters[second])) == ((first, second) not in differ)


def test_letters_of_a_chain_where_only_the_ends_differ():
    assert letters_of(["best", "middle", "last"], [("best", "last")]) == {
        "best": ("a",),
        "middle": ("a", "b"),
        "last": ("b",),
    }


def test_more_than_26_groups_go_on_with_two_letters():
    names = [f"n{i}" for i in range(28)]
    letters = letters_of(names, list(combinations(names, 2)))
    assert [letters[name] for name in (names[0], names[25], names[26], names[27])] == [("a",), ("z",), ("aa",), ("ab",)]


def test_groups_never_contradict_the_verdicts():
    for random in range(20):
        scores = experiment(random, {"base": 0.0, "v1": 0.0, "v2": 0.6, "v3": 0.9, "v4": -0.8}, seeds=3, queries=40)
        verdicts = judge(scores, "base")
        letters = group_letters(compare_all(scores), verdicts, "base")
        for name, verdict in verdicts.items():
            apart = not set(letters[name]) & set(letters["base"])
            assert apart == (verdict.word in ("better", "worse"))


def test_variants_with_too_few_seeds_stand_in_no_group():
    scores = experiment(0, {"a": 0.0, "b": 1.0})
    scores["c"] = Scores((0, 1), (scores["b"].tables[0][:2],))
    assert set(compare_all(scores).names) == {"a", "b"}


def test_shares_of_the_variance_are_recovered():
    found = []
    for random in range(30):
        generator = np.random.default_rng([random, 1])
        means = {f"v{i}": value for i, value in enumerate(generator.normal(0, 2.0, 8))}
        scores = experiment(random, means, seed_sd=0.5, query_sd=1.5, noise_sd=1.0, queries=100)
        same = dict.fromkeys(means, 0.001)
        shares = variance_shares(scores, compare_all(scores), {name: name for name in means}, same)
        assert shares.learning_rate is None
        found.append([shares.head, shares.seed, shares.queries_paired])
    squares = np.mean(np.square(found), axis=0)
    assert squares[0] == pytest.approx(4.0, rel=0.25)
    assert squares[1] == pytest.approx(0.5**2 + 1 / 100, rel=0.1)
    assert squares[2] == pytest.approx(2 * 1.5**2 / 100, rel=0.1)


def test_the_learning_rates_share_comes_from_trials_of_one_head():
    means = {"linear slow": 0.0, "linear fast": 3.0, "ffn slow": 0.0, "ffn fast": 3.0}
    scores = experiment(0, means, queries=500)
    heads = {name: name.split()[0] for name in means}
    rates = {name: 0.001 if name.endswith("slow") else 0.01 for name in means}
    shares = variance_shares(scores, compare_all(scores), heads, rates)
    assert shares.learning_rate == pytest.approx(3.0 / np.sqrt(2), rel=0.15)


def test_a_plan_for_the_present_size_foresees_what_the_verdicts_say():
    found, foreseen = [], []
    for random in range(40):
        scores = experiment(random, dict.fromkeys(("base", "v1", "v2", "v3"), 0.0), query_sd=0.5)
        found += [verdict.smallest_shown for verdict in judge(scores, "base").values()]
        parts = [paired_levels(scores[name], scores["base"]) for name in ("v1", "v2", "v3")]
        foreseen.append(fit_design(parts).smallest_shown(5))
    assert np.mean(foreseen) == pytest.approx(np.mean(found), rel=0.05)


def test_more_seeds_and_more_queries_show_smaller_differences():
    design = Design(0.01, 0.02, 0.03, seeds=3, queries=(50, 100), comparisons=6)
    by_seeds = [design.smallest_shown(seeds) for seeds in (3, 4, 6, 10, 30)]
    by_queries = [design.smallest_shown(5, factor) for factor in (0.5, 1.0, 2.0, 10.0)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert by_queries == sorted(by_queries, reverse=True)


def test_what_a_plan_asks_for_is_enough_and_nothing_less_is():
    design = Design(0.0001, 0.0002, 0.0003, seeds=3, queries=(50,), comparisons=6)
    seeds = design.seeds_needed(0.08)
    assert design.smallest_shown(seeds) <= 0.08 < design.smallest_shown(seeds - 1)
    factor = design.queries_needed(0.08)
    assert design.smallest_shown(3, factor) <= 0.08 < design.smallest_shown(3, 0.98 * factor)
    assert design.seeds_needed(0.0001) is None
    assert design.queries_needed(0.0001) is None


def test_calibration_in_small_keeps_its_promises_and_gives_the_same_numbers_again():
    structure = calibration.assumed_structure()
    drawn = [calibration.simulate(structure, (3, 50, 1), experiments=200, random=(0, 0)) for _ in range(2)]
    for name, scene in calibration.SCENES.items():
        cells = [calibration.null_cell(scene, one["scenes"][name]) for one in drawn]
        assert cells[0] == cells[1]
        assert cells[0]["called_better"]["share"] <= 0.08
        assert 0.90 <= cells[0]["coverage"]["share"] <= 0.99
        shares = [one["share"] for one in cells[0]["power"]]
        assert shares == sorted(shares)
        assert 0.7 <= cells[0]["stated_power"] <= 0.9


@pytest.mark.parametrize("name", calibration.SCENES)
def test_calibration_judges_as_the_report_does(name):
    structure, size = calibration.assumed_structure(), (3, 20, 2)
    found = calibration.simulate(structure, size, experiments=1, random=(7,))["scenes"][name]
    generator = np.random.default_rng((7,))
    tables = calibration.draw_queries(structure, generator, size)
    shifts = calibration.draw_seeds(structure, generator, size)
    scores = calibration.as_scores(tables, calibration.in_scene(calibration.SCENES[name], shifts))
    verdicts = list(judge(scores, "v0").values())
    expected = [[one.difference, one.standard_error, one.df, one.adjusted_p] for one in verdicts]
    assert found[:, 0].T.tolist() == [pytest.approx(row) for row in expected]


def test_the_calibrations_power_counts_what_judging_the_better_variant_again_would():
    structure, size, gain, experiments = calibration.assumed_structure(), (4, 30, 1), 0.05, 25
    found = calibration.simulate(structure, size, experiments=experiments, random=(1,))["scenes"]["seeds as fitted"]
    generator, hits = np.random.default_rng((1,)), []
    for number in range(experiments):
        tables = calibration.draw_queries(structure, generator, size)
        shifts = calibration.draw_seeds(structure, generator, size)
        scores = calibration.as_scores(tables, shifts)
        for name in list(scores)[1:]:
            better = Scores(scores[name].seeds, tuple(table + gain for table in scores[name].tables))
            hits.append(judge(scores | {name: better}, "v0")[name].word == "better")
        if number % calibration.BOOTSTRAP_EVERY == 0:
            calibration.two_level_bootstrap([scores["v1"].tables[0] - scores["v0"].tables[0]], generator, draws=300)
    assert 0 < sum(hits) < len(hits)
    assert calibration.power(found, [gain] * 6) == pytest.approx(np.mean(hits))


def test_calibration_takes_the_scatter_from_trials(tmp_path):
    effects = dict.fromkeys(("linear", "a", "b", "c", "d", "e"), 0.0)
    plan = Plan(effects=effects, seeds=tuple(range(8)), queries=150, seed_sd=0.02, query_sd=0.04, noise_sd=0.05)
    structure = calibration.fit_structure(make_experiment(tmp_path / "x", plan))
    assert structure.seed_sd == pytest.approx(0.02, rel=0.5)
    assert structure.query_sd == pytest.approx(0.04, rel=0.25)
    assert structure.noise_sd == pytest.approx(0.05, rel=0.25)
    assert np.mean(np.square(structure.volatility)) == pytest.approx(1.0)


def test_a_real_null_deals_one_variants_trials_out(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(effects={"linear": 0.0}, seeds=tuple(range(12)), queries=30))
    null = calibration.real_null(folder, seeds=3, experiments=40, random=0)
    assert (null["trials"], null["pretended_variants"]) == (12, 4)
    assert null["called_better"] <= 0.2
    assert null["coverage"] > 0.8
