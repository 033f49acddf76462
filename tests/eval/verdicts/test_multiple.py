import numpy as np
import pytest
from scipy import stats

from eval.verdicts.multiple import adjust, critical, holm


@pytest.mark.parametrize("count", [2, 6, 20])
def test_the_joint_distribution_is_that_of_scipys_dunnett(count):
    """Equal groups of many observations: normal, with a correlation of one half."""
    generator = np.random.default_rng(count)
    groups = generator.normal(0, 1, (count + 1, 4000))
    expected = stats.dunnett(*groups[1:], control=groups[0], rng=np.random.default_rng(0))
    pooled = groups.var(axis=1, ddof=1).mean()
    z = (groups[1:].mean(axis=1) - groups[0].mean()) / np.sqrt(2 * pooled / 4000)
    found = [adjust(float(2 * stats.norm.sf(abs(one))), 0.5, count) for one in z]
    assert found == pytest.approx(expected.pvalue.tolist(), abs=3e-3)


@pytest.mark.parametrize(("count", "value"), [(2, 2.21), (3, 2.35), (6, 2.57), (10, 2.72)])
def test_critical_values_are_those_of_dunnetts_table(count, value):
    # Dunnett 1964, Biometrics 20: two-sided, 5%, infinite degrees of freedom, correlation 1/2.
    assert critical(0.5, count, 0.05) == pytest.approx(value, abs=0.006)


def test_independent_differences_are_sidaks():
    assert adjust(0.01, 0.0, 6) == pytest.approx(1 - 0.99**6)
    assert adjust(1e-12, 0.0, 6) == pytest.approx(6e-12, rel=1e-6)


def test_correlation_helps_and_one_difference_needs_no_correction():
    values = [critical(rho, 6, 0.05) for rho in (0.0, 0.3, 0.6, 0.9, 1.0)]
    assert values == sorted(values, reverse=True)
    assert adjust(0.03, 0.7, 1) == 0.03
    assert critical(0.7, 1, 0.05) == pytest.approx(1.95996, abs=1e-4)


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.85])
def test_the_intervals_critical_value_is_where_the_p_value_is_five_percent(correlation):
    z = critical(correlation, 7, 0.05)
    assert adjust(float(2 * stats.norm.sf(z)), correlation, 7) == pytest.approx(0.05, abs=1e-9)


def test_holm_gives_the_values_of_rs_p_adjust():
    # R 4.3: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
