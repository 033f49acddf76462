"""``rounds.json``: what was decided at each look at an experiment."""

from typing import Any, ClassVar

from experiment.disk.record import Count, Part, Record

__all__ = ["LookRecord", "LookState", "RoundsRecord"]


class LookState(Part):
    """What was known about one variant after a look.

    Attributes:
        state: ``better``, ``worse``, ``equivalent``, ``undecided`` or ``too few seeds``.
        look: The look at which it was decided, from 0; the present one if it is not.
        seeds: The variant's seeds that counted at that look.
        baseline_seeds: The baseline's.
        difference: The difference from the baseline at that look, from 0 to 1.
        low: Lower end of its interval, which holds over all looks and variants; null with too few seeds.
        high: Upper end.
        adjusted_p: The p-value of no difference, corrected for variants and looks.
        equivalent_p: The same of a difference beyond the resolution; null without one.
    """

    state: str
    look: Count
    seeds: Count
    baseline_seeds: Count
    difference: float
    low: float | None
    high: float | None
    adjusted_p: float
    equivalent_p: float | None


class LookRecord(Part):
    """One look at the verdicts.

    Attributes:
        seeds: By row of the leaderboard, how many seeds counted, the first ones of ``trained``.
        states: What was known about each row but the baseline.
    """

    seeds: dict[str, Count]
    states: dict[str, LookState]


class RoundsRecord(Record):
    """``rounds.json``: the looks at an experiment's verdicts, and what is trained next.

    Attributes:
        schema_version: Version of this file.
        question: The question that the first look answered; null for a fixed list of seeds.
        trained: By row of the leaderboard, its seeds in the order in which looks first saw them.
        looks: Every look, in order. A look at the same seeds as the one before is not repeated.
        next: By row, how many seeds are trained, from seed 0; empty for a fixed list of seeds.
        done: Whether no further seeds are needed.
    """

    written_by: ClassVar[str] = "python -m eval"

    question: dict[str, Any] | None = None
    trained: dict[str, list[int]] = {}
    looks: list[LookRecord] = []
    next: dict[str, Count] = {}
    done: bool
