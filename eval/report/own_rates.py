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
        change: Its own rate against the shared one, over the seeds of both; None if these are the same trials,
            or no seed has both.
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
        seeds = [seed for seed in one.seeds if seed in own[label].seeds]
        # A variant starts as the same map with a seed, whatever its rate, even if no other variant shares that start.
        before, after = (Scores(tuple(seeds), rate.at(seeds), label) for rate in (one, own[label]))
        same = all(map(np.array_equal, before.tables, after.tables))
        change = None if same else judge({"": before, label: after}, "", families=len(shared))[label]
        means = {name: float(table.mean()) for name, table in zip(datasets, one.tables, strict=True)}
        found[label] = OwnRate(one.seeds, means, change)
    return found
