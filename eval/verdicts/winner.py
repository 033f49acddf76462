"""The winner's luck: the largest of several differences is overstated, because luck helped to make it the largest."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eval.verdicts.difference import Difference
from eval.verdicts.judge import Verdict

__all__ = ["Winner", "winner"]


@dataclass(frozen=True)
class Winner:
    """The variant with the largest difference.

    Attributes:
        name: Its name.
        difference: The difference that was found.
        shrunk: What it is once the luck of having been the largest is taken off.
        compared: Number of variants that it was the largest of.
    """

    name: str
    difference: float
    shrunk: float
    compared: int


def winner(verdicts: Mapping[str, Verdict], *, new_queries: bool = True) -> Winner | None:
    """Return the variant with the largest difference, with an estimate that has no luck in it.

    The true differences are taken for draws from one normal distribution about the baseline. How far the differences
    scatter, over what chance does to one variant, says how much of a variant's distance to their mean is real (James
    and Stein, Fourth Berkeley Symposium, 1961); their mean, which the baseline's luck moves, is shrunk separately.

    Args:
        verdicts: From ``judge``; those with too few seeds do not count.
        new_queries: Whether for new queries, or for these.

    Returns:
        The winner, or None where no variant has a verdict.
    """
    judged = {name: one.design.difference for name, one in verdicts.items() if one.design}
    if not new_queries:
        judged = {name: one for name, one in judged.items() if not one.fixed}
    if not judged:
        return None
    name = max(judged, key=lambda one: judged[one].mean)
    differences, count = np.array([one.mean for one in judged.values()]), len(judged)
    parts = [_own_and_baseline(one, new_queries=new_queries) for one in judged.values()]
    own, baseline = np.mean(parts, axis=0).tolist()
    mean, best = float(differences.mean()), judged[name].mean
    if count == 1:
        real = max(0.0, 1 - (own + baseline) / best**2) if best else 0.0
        return Winner(name, best, best * real, count)
    spread = float(differences.var(ddof=1))
    real = max(0.0, 1 - max(count - 2, 1) / (count - 1) * own / spread) if spread else 0.0
    # The mean of the true differences varies with them, or is itself away from 0 by more than chance explains.
    chance = own / count + baseline
    signal = max(real * spread / count, mean**2 - chance)
    together = mean * signal / (signal + chance) if signal > 0 else 0.0
    # Shrinking the common mean towards 0 raises a winner over variants that are worse than the baseline.
    return Winner(name, best, min(together + real * (best - mean), max(best, 0.0)), count)


def _own_and_baseline(one: Difference, *, new_queries: bool) -> tuple[float, float]:
    """Return what chance does to the variant, and to the baseline; of the queries' part either has half."""
    seeds = [part.variance / part.seeds for part in one.parts]
    shared = one.shared.variance / one.shared.seeds if one.parts else 0.0
    queries = one.query_part / 2 if new_queries else 0.0
    return sum(seeds) - shared + queries, shared + queries
