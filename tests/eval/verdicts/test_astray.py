import numpy as np
import pytest

from eval.verdicts import astray_trials, judge
from tests.eval.verdicts.made import constant, experiment


def test_the_quickstarts_seed_that_went_astray_is_named():
    """One seed of ten came out at 47 where the others of its head and of the other heads lie near 59."""
    generator = np.random.default_rng(0)
    means = {name: generator.normal(0.59, 0.009, 10) for name in ("linear", "ffn", "upscaled")}
    means["upscaled"][6] = 0.47
    (found,) = astray_trials({name: constant(one) for name, one in means.items()})
    assert (found.variant, found.seed, found.score) == ("upscaled", 6, pytest.approx(0.47))
    assert found.median == pytest.approx(0.59, abs=0.01)
    assert found.deviations > 5


def test_it_is_found_among_three_seeds_too_and_its_fellows_are_not_accused():
    means = {"a": [0.58, 0.59, 0.60], "b": [0.585, 0.47, 0.595], "c": [0.59, 0.6, 0.585], "d": [0.6, 0.58, 0.59]}
    found = astray_trials({name: constant(one) for name, one in means.items()})
    assert [(one.variant, one.seed) for one in found] == [("b", 1)]


def test_a_head_that_scatters_a_lot_is_not_accused():
    generator = np.random.default_rng(1)
    means = {"calm": generator.normal(0.6, 0.005, 8), "wild": generator.normal(0.6, 0.04, 8)}
    assert astray_trials({name: constant(one) for name, one in means.items()}) == []


def test_ordinary_experiments_name_nobody():
    accused = [bool(astray_trials(experiment(random, dict.fromkeys("bvwx", 0.0), seeds=4))) for random in range(200)]
    assert np.mean(accused) < 0.03


def test_too_few_trials_name_nobody():
    assert astray_trials({"a": constant([0.5, 0.5, 0.1])}) == []
    assert astray_trials({name: constant([0.5, 0.1]) for name in "abcdef"}) == []


def test_the_verdict_can_be_given_with_and_without_it():
    scores = experiment(0, {"b": 0.0, "v": 1.5, "w": 0.0}, seeds=6, seed_sd=0.1)
    scores["v"].tables[0][2] -= 12.0
    (found,) = astray_trials(scores)
    assert (found.variant, found.seed) == ("v", 2)
    without = scores | {"v": scores["v"].without([found.seed])}
    assert judge(scores, "b")["v"].word == "no difference shown"
    assert judge(without, "b")["v"].word == "better"
    assert judge(without, "b")["v"].seeds == 5
