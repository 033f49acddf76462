"""What a diagnostic says about the variants, in words."""

from collections.abc import Sequence

from eval.report.explanations import Explanation
from eval.report.table import Leaderboard

__all__ = ["alarm", "number", "sentence"]

NAMED = 4
"""At most so many variants are named; the figure shows the others."""


def number(value: float) -> str:
    """Write a value with three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def sentence(board: Leaderboard, explanation: Explanation) -> str:
    """Say which variants are lowest and highest, and where the baseline is."""
    part = explanation.parts[0]
    means = _means(board, explanation, part)
    if not means:
        return ""
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    subject = f"{explanation.meaning.title} ({part})" if len(explanation.parts) > 1 else explanation.meaning.title
    if number(means[low]) == number(means[high]):
        return f"{subject}: {number(means[low])} for every variant."
    text = f"{subject}: lowest for {low} ({number(means[low])}), highest for {high} ({number(means[high])})"
    if board.baseline in means and board.baseline not in (low, high):
        text += f"; the baseline has {number(means[board.baseline])}"
    return f"{text}."


def alarm(board: Leaderboard, explanation: Explanation) -> str:
    """Name the variants that are beyond a diagnostic's limits; empty for one without limits."""
    meaning, part = explanation.meaning, explanation.parts[0]
    if not meaning.alarm:
        return ""
    limits = [f"above {number(meaning.above)}"] if meaning.above is not None else []
    limits += [f"below {number(meaning.below)}"] if meaning.below is not None else []
    means = _means(board, explanation, part)
    beyond = {
        label: value
        for label, value in means.items()
        if (meaning.above is not None and value > meaning.above)
        or (meaning.below is not None and value < meaning.below)
    }
    what = f"{meaning.title.lower()} ({part}) {' or '.join(limits)}"
    if not beyond:
        return f"No variant is {meaning.alarm} ({what})."
    worst = sorted(beyond, key=lambda label: -abs(beyond[label]))
    named = listed([f"{label} ({number(beyond[label])})" for label in worst])
    return f"{meaning.alarm[:1].upper()}{meaning.alarm[1:]}: {named}; {what}."


def listed(names: Sequence[str]) -> str:
    """Join names; beyond a few, only their number is given."""
    shown = [*names[:NAMED], f"{len(names) - NAMED} more"] if len(names) > NAMED + 1 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _means(board: Leaderboard, explanation: Explanation, part: str) -> dict[str, float]:
    found = {row.label: explanation.mean(part, row.label) for row in board.rows}
    return {label: value for label, value in found.items() if value is not None}
