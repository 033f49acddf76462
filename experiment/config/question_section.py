"""The section ``question`` of an experiment's YAML."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, StrictBool, StrictInt, field_validator

from experiment.fields import Positive, Section

__all__ = ["QuestionConfig"]

MOST_SEEDS = 10_000
LEAST_SEEDS = 3
"""A verdict needs three seeds of the variant and three of the baseline."""


def _range(value: Any) -> Any:
    """Read ``3..20`` as [3, 20]."""
    found = re.fullmatch(r"\s*([0-9]{1,9})\s*\.\.\s*([0-9]{1,9})\s*", value) if isinstance(value, str) else None
    if found is None and isinstance(value, str):
        raise ValueError(f"write the least and the most seeds of a variant, as [3, 20] or 3..20; got {value!r}")
    return [int(number) for number in found.groups()] if found else value


class QuestionConfig(Section):
    """The resolution that is asked for: seeds are added in rounds until each variant is decided.

    Attributes:
        resolution: The difference that matters, in points: a variant whose difference from the baseline is shown to be
            smaller is equivalent.
        seeds: The least and the most seeds of a variant, as ``[3, 20]`` or ``3..20``. The most is fixed before the
            first trial; changing it later makes every further verdict stricter.
        queries: What the decisions are about: ``these`` queries, where seeds are the only chance, or ``new`` queries
            of this kind, where only more queries can resolve a small difference. The report gives both.
        race: Whether to look for the best of many variants instead of deciding each: further seeds go to the variants
            that no other one is shown to beat, until one is left or has the most seeds. ``python -m answer`` then
            compares that one with the baseline on new seeds, in a second experiment next to this one.
    """

    resolution: Positive
    seeds: Annotated[tuple[StrictInt, StrictInt], BeforeValidator(_range)]
    queries: Literal["these", "new"] = "these"
    race: StrictBool = False

    @field_validator("seeds")
    @classmethod
    def _ordered(cls, seeds: tuple[int, int]) -> tuple[int, int]:
        least, most = seeds
        if least < LEAST_SEEDS:
            raise ValueError(f"the least number of seeds must be at least {LEAST_SEEDS}, not {least}")
        if most > MOST_SEEDS:
            raise ValueError(f"the most seeds must be at most {MOST_SEEDS}, not {most}")
        if most < least:
            raise ValueError(f"the most seeds, {most}, must not be fewer than the least, {least}")
        return seeds
