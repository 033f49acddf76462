"""The tests of ranx, a peer, and ours give one p-value where both ask the same question: one trial, new queries."""

import numpy as np
import pytest

from eval.verdicts import Scores, judge

QUERIES = 80


def one_trial(random, gain):
    generator = np.random.default_rng(random)
    baseline = generator.uniform(0, 1, QUERIES)
    variant = np.clip(baseline + generator.normal(gain, 0.2, QUERIES), 0, 1)
    return variant, baseline


def judged(variant, baseline):
    scores = {"v": Scores((0,), (variant[None],)), "b": Scores((0,), (baseline[None],))}
    return judge(scores, "b")["v"].new_queries


def by_query(scores):
    return {"nDCG": dict(zip(map(str, range(QUERIES)), scores, strict=True))}


@pytest.mark.parametrize("gain", [0.0, 0.03, 0.08])
@pytest.mark.parametrize("random", range(4))
def test_one_seed_is_ranxs_paired_students_t(random, gain):
    tests = pytest.importorskip("ranx.statistical_tests")
    variant, baseline = one_trial(random, gain)
    mine = judged(variant, baseline)
    theirs, significant = tests.paired_student_t_test(variant, baseline, max_p=0.05)
    assert mine.p_value == pytest.approx(theirs)
    assert (mine.p_value < 0.05) == significant


@pytest.mark.parametrize("gain", [0.0, 0.03])
def test_one_seed_agrees_with_ranxs_randomisation_test(gain):
    tests = pytest.importorskip("ranx.statistical_tests")
    variant, baseline = one_trial(3, gain)
    mine = judged(variant, baseline)
    theirs, _ = tests.fisher_randomization_test(variant, baseline, n_permutations=4000, max_p=0.05, random_seed=1)
    # 4000 permutations of a p-value near 0.5 scatter by 0.008.
    assert mine.p_value == pytest.approx(theirs, abs=0.03)


def test_several_seeds_are_not_more_queries():
    """A test over queries takes each seed's scores for new queries; two trained models are not that many facts."""
    generator = np.random.default_rng(0)
    shift = np.array([0.05, 0.02, -0.01])[:, None]
    table = shift + generator.normal(0, 0.05, (1, QUERIES)) + generator.normal(0, 0.05, (3, QUERIES))
    seeds = (0, 1, 2)
    scores = {"v": Scores(seeds, (table,), "x"), "b": Scores(seeds, (np.zeros_like(table),), "x")}
    ours = judge(scores, "b")["v"].new_queries
    pooled = judged(table.ravel(), np.zeros(table.size))
    assert pooled.p_value < 0.05 < ours.p_value
