from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.verdicts import Scores, judge
from eval.verdicts.pairs import compare_all, group_letters, letters_of, variance_shares
from tests.eval.verdicts.made import experiment


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
