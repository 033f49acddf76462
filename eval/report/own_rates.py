"""What each variant scores at the learning rate that all have in common, and what its own rate changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.verdicts import Scores, Verdict, judge

__all__ = ["OwnRate", "own_rates"]


@dataclass(frozen=True)
class OwnRate:
    """A variant at the shared learning rate and at its own.

    Attributes:
        seeds: Seeds of the trials at the shared rate.
        shared: Their mean score on each data set.
        change: Its own rate against the shared one, over the seeds of both; None if these trials are the same.
    """

    seeds: tuple[int, ...]
    shared: Mapping[str, float]
    change: Verdict | None

    @property
    def mean(self) -> float:
        """The mean score at the shared rate over all data sets."""
        return float(np.mean(list(self.shared.values())))


def own_rates(own: Mapping[str, Scores], shared: Mapping[str, Scores], datasets: Sequence[str]) -> dict[str, OwnRate]:
    """Compare every variant that was evaluated at both rates with itself.

    Args:
        own: Scores of each variant at its own rate.
        shared: Scores at the shared rate, fewer seeds as a rule.
        datasets: Names of the data sets, in the order of the scores.
    """
    found = {}
    for label, one in shared.items():
        if label not in own:
            continue
        both = own[label].without([seed for seed in own[label].seeds if seed not in one.seeds])
        verdicts = judge({"shared": one, label: both}, "shared", families=len(shared))
        means = {name: float(table.mean()) for name, table in zip(datasets, one.tables, strict=True)}
        found[label] = OwnRate(one.seeds, means, None if _same(one, both) else verdicts[label])
    return found


def _same(one: Scores, other: Scores) -> bool:
    return one.seeds == other.seeds and all(map(np.array_equal, one.tables, other.tables))
