"""What the report calls the effects of factors."""

from collections.abc import Hashable

from eval.report import format as fmt
from eval.verdicts import Effect, Effects, Scope

__all__ = ["effect_title", "effect_word", "warnings"]


def effect_title(effect: Effect) -> str:
    """Name an effect: ``depth: 3 instead of 2``, or ``depth=3 with residual=true``."""
    if len(effect.factors) == 1:
        return f"{effect.factors[0]}: {_level(effect.levels[0])} instead of {_level(effect.against[0])}"
    return " with ".join(f"{name}={_level(at)}" for name, at in zip(effect.factors, effect.levels, strict=True))


def effect_word(effect: Effect, scope: Scope) -> str:
    """Write the verdict about an effect in one scope; an interaction is neither better nor worse, but shown."""
    return "shown" if len(effect.factors) > 1 and scope.word in ("better", "worse") else scope.word


def warnings(found: Effects) -> list[str]:
    """Say where an interaction makes a main effect misleading, and what the grid cannot show."""
    said = []
    for one in found.main:
        for other in one.misleading:
            parts = [
                f"{fmt.difference(value)} at {other}={_level(at)}" for name, at, value in one.simple if name == other
            ]
            said.append(
                f"{effect_title(one)}: its effect depends on {other} ({', '.join(parts)}), so the average says little."
            )
    if found.assumed_absent:
        pairs = ", ".join(" and ".join(pair) for pair in found.assumed_absent)
        said.append(f"The grid has too few variants to show how these act together, so it is taken for none: {pairs}.")
    return said


def _level(level: Hashable) -> str:
    return level if isinstance(level, str) else str(level).lower() if isinstance(level, bool) else str(level)
