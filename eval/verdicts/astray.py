"""Trials that went astray: seeds whose score is far from that of the same variant's other seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eval.verdicts.scores import FloatArray, Scores

__all__ = ["FAR", "Astray", "astray_trials"]

FAR = 5.0
"""A seed is astray if it is this many standard deviations from the median of its variant's other seeds."""

NORMAL = 1.4826
"""Standard deviation of normal draws over the median of their sizes."""


@dataclass(frozen=True)
class Astray:
    """A trial that went astray.

    Attributes:
        variant: Its variant.
        seed: Its seed.
        score: Its score, the mean over data sets.
        median: The median of the variant's other seeds.
        deviations: How many standard deviations lie between the two.
    """

    variant: str
    seed: int
    score: float
    median: float
    deviations: float


def astray_trials(scores: Mapping[str, Scores]) -> list[Astray]:
    """Name the trials that went astray; judge with them and, by ``Scores.without``, without them.

    A trial's distance is the one to the median of its variant's other seeds. The scale is the larger of two: the robust
    spread of these distances over all variants (their median size times 1.4826), and the standard deviation of the
    variant's other seeds, so that a head that scatters a lot is not accused seed by seed. Of each variant the furthest
    seed is looked at first and set aside before the next; at most a third of its seeds can be astray, and a variant
    with fewer than three seeds, or all with fewer than six trials together, accuse none.

    Args:
        scores: The variants' scores.

    Returns:
        The trials that went astray, in the order of ``scores``.
    """
    means = {name: one.means() for name, one in scores.items() if len(one.seeds) >= 3}
    distances = [
        abs(values[place] - _others(values, place)[0]) for values in means.values() for place in range(len(values))
    ]
    if len(distances) < 6:
        return []
    common = NORMAL * float(np.median(distances))
    found = []
    for name, values in means.items():
        seeds = list(scores[name].seeds)
        found_here: list[Astray] = []
        while len(found_here) < len(scores[name].seeds) // 3:
            far = [_astray(name, seeds, values, place, common) for place in range(len(values))]
            worst = max(far, key=lambda one: one.deviations)
            if worst.deviations <= FAR:
                break
            found_here.append(worst)
            place = seeds.index(worst.seed)
            seeds, values = [*seeds[:place], *seeds[place + 1 :]], np.delete(values, place)
        found += found_here
    return found


def _astray(name: str, seeds: list[int], values: FloatArray, place: int, common: float) -> Astray:
    median, spread = _others(values, place)
    scale, distance = max(common, spread), abs(float(values[place]) - median)
    deviations = distance / scale if scale > 0 else (np.inf if distance > 0 else 0.0)
    return Astray(name, seeds[place], float(values[place]), median, float(deviations))


def _others(values: FloatArray, place: int) -> tuple[float, float]:
    """Return the median of the other values and their standard deviation."""
    rest = np.delete(values, place)
    return float(np.median(rest)), float(rest.std(ddof=1)) if len(rest) > 1 else 0.0
