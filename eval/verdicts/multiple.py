"""Several comparisons at once: the joint distribution of differences that share a baseline, and Holm's correction."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import special

__all__ = ["adjust", "critical", "holm"]

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
WEIGHTS = WEIGHTS / np.sqrt(2 * np.pi)

MOST_CORRELATED = 0.9
"""Higher correlations count as this one, which is careful, and up to which the quadrature is exact to three digits."""


def adjust(p_value: float, correlation: float, count: int) -> float:
    """Return the chance that any of ``count`` differences has a p-value this small where no variant differs.

    The differences are normal, and any two correlate alike, because they share the baseline (Dunnett, Journal of the
    American Statistical Association 50, 1955). A p-value from Student's t counts as the normal value with that p.

    Args:
        p_value: Two-sided, of one difference.
        correlation: Between two differences.
        count: Number of differences.
    """
    if count == 1 or p_value >= 1:
        return min(p_value, 1.0)
    return max(p_value, _any(float(-special.ndtri(p_value / 2)), _rounded(correlation), count))


def critical(correlation: float, count: int, alpha: float) -> float:
    """Return the z at which ``adjust`` gives ``alpha``: the simultaneous intervals' critical value."""
    return _critical(_rounded(correlation), count, alpha)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, A simple sequentially rejective multiple test procedure, 1979)."""
    count = len(p_values)
    adjusted = [1.0] * count
    highest = 0.0
    for step, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - step) * p_values[index]))
        adjusted[index] = highest
    return adjusted


@lru_cache(maxsize=4096)
def _critical(correlation: float, count: int, alpha: float) -> float:
    low, high = (float(-special.ndtri(alpha / 2 / most)) for most in (1, count))
    if count == 1:
        return low
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _any(middle, correlation, count) > alpha else (low, middle)
    return high


def _any(z: float, correlation: float, count: int) -> float:
    """Return P(any |z_i| >= z), from the tails, so that small chances keep their digits."""
    root, rest = np.sqrt(correlation), np.sqrt(1 - correlation)
    one = special.ndtr((-z + root * NODES) / rest) + special.ndtr((-z - root * NODES) / rest)
    # Nodes far out have no weight, but there one may be 1.
    with np.errstate(divide="ignore"):
        return float(-np.expm1(count * np.log1p(-np.minimum(one, 1.0))) @ WEIGHTS)


def _rounded(correlation: float) -> float:
    return round(min(max(correlation, 0.0), MOST_CORRELATED), 3)
