"""The winner's luck: the largest of several differences is overstated, because luck helped to make it the largest."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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

    The true differences are taken for draws from one normal distribution about the baseline, whose variance the
    differences show (James and Stein, Fourth Berkeley Symposium, 1961). What the baseline's luck moves together and
    what moves one variant are shrunk separately.

    Args:
        verdicts: From ``judge``; those with too few seeds do not count.
        new_queries: Whether for new queries, or for these.

    Returns:
        The winner, or None where no variant has a verdict.
    """
    scopes = {name: one.new_queries if new_queries else one.these_queries for name, one in verdicts.items()}
    judged = {name: scope for name, scope in scopes.items() if scope.low is not None}
    if not judged:
        return None
    name = max(judged, key=lambda one: judged[one].difference)
    differences = np.array([scope.difference for scope in judged.values()])
    errors = np.array([scope.standard_error for scope in judged.values()]) ** 2
    mean, count = float(differences.mean()), len(judged)
    own = float(errors.mean()) / 2
    truth = max(0.0, float(np.mean(differences**2) - errors.mean()))
    together = mean * truth / (truth + own * (1 + count)) if truth else 0.0
    alone = (judged[name].difference - mean) * truth / (truth + own) if truth else 0.0
    return Winner(name, judged[name].difference, together + alone, count)
