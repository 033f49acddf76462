"""What a diagnostic says about the variants, in words."""

from collections.abc import Sequence

from eval.report import format as fmt
from eval.report.explanations import Explanation
from eval.report.table import Leaderboard
from eval.report.why.bands import Split
from eval.report.why.predict import Prediction

__all__ = ["alarm", "clipping", "number", "prediction_sentence", "sentence", "split_sentence"]

BRANCHES = "branches: "
"""How the parts of a diagnostic begin that are branches of heads, of which each head has others."""

NAMED = 4
"""At most so many variants are named; the figure shows the others."""


def number(value: float) -> str:
    """Write a value with three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def sentence(board: Leaderboard, explanation: Explanation) -> str:
    """Say which variants are lowest and highest, and where the baseline is; of branches, which are."""
    part = explanation.parts[0]
    if part.startswith(BRANCHES):
        return _branch_sentence(board, explanation)
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


def _branch_sentence(board: Leaderboard, explanation: Explanation) -> str:
    named = {
        f"{part.removeprefix(BRANCHES)} of {label}": value
        for part in explanation.parts
        for label, value in _means(board, explanation, part).items()
    }
    ordered = sorted(named, key=named.__getitem__)
    low, high = ordered[0], ordered[-1]
    return (
        f"{explanation.meaning.title}: largest for {high} ({number(named[high])}), smallest for {low} "
        f"({number(named[low])})."
    )


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
    what = f"{meaning.title[:1].lower()}{meaning.title[1:]} ({part}) {' or '.join(limits)}"
    if not beyond:
        return f"No variant is {meaning.alarm} ({what})."
    worst = sorted(beyond, key=lambda label: -abs(beyond[label]))
    named = listed([f"{label} ({number(beyond[label])})" for label in worst])
    return f"{meaning.alarm[:1].upper()}{meaning.alarm[1:]}: {named}; {what}."


def listed(names: Sequence[str]) -> str:
    """Join names; beyond a few, only their number is given."""
    shown = [*names[:NAMED], f"{len(names) - NAMED} more"] if len(names) > NAMED + 1 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def split_sentence(board: Leaderboard, split: Split) -> str:
    """Say where the best variant gains, and on which groups of queries some variant differs from the baseline."""
    names = [row.label for row in board.rows if any(row.label in band.differences for band in split.bands)]
    if not names:
        return ""
    best = names[0]
    on_best = [(band.name, band.differences[best]) for band in split.bands if best in band.differences]
    most, least = (choose(on_best, key=lambda one: one[1][0]) for choose in (max, min))
    text = f"{best} gains {change(most)} on {most[0]}"
    text += f" and {change(least)} on {least[0]}." if most[0] != least[0] else "."
    differing = [
        f"{band.name} ({', '.join(parts)})"
        for band in split.bands
        if (parts := _signs(list(band.differences.values())))
    ]
    shown = f" Differences whose interval excludes 0: {'; '.join(differing)}." if differing else ""
    return text + (shown or " No interval excludes 0.")


def change(named: tuple[str, tuple[float, float, float]]) -> str:
    """Write a difference with its interval, in points."""
    value, low, high = named[1]
    return f"{fmt.difference(value)} {fmt.interval(low, high)}"


def _signs(differences: Sequence[tuple[float, float, float]]) -> list[str]:
    """Count the variants whose interval is above 0, and those whose interval is below."""
    above, below = sum(low > 0 for _, low, _ in differences), sum(high < 0 for _, _, high in differences)
    return [f"{count} {what}" for count, what in ((above, "better"), (below, "worse")) if count]


def clipping(board: Leaderboard) -> str:
    """Say whether gradients were clipped, and how unevenly."""
    shares = {row.label: row.costs.clipped for row in board.rows if row.costs and row.costs.clipped is not None}
    if not shares:
        return ""
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    if not shares[high]:
        return "Clipping was inactive: no step of any variant was clipped."
    if fmt.share(shares[low]) == fmt.share(shares[high]):
        return f"Clipping was active in {fmt.share(shares[high])} of the steps of every variant."
    return (
        f"Clipping was active: from {fmt.share(shares[low])} of the steps of {low} to {fmt.share(shares[high])} of "
        f"those of {high}."
    )


def prediction_sentence(found: Sequence[Prediction]) -> str:
    """Say which diagnostics go with the score."""
    if not found:
        return ""
    shown = [one for one in found if one.score.low is not None and one.score.high is not None]
    if not shown:
        named = listed([f"{one.title} ({one.part}, {number(one.score.value)})" for one in found[:3]])
        few = f"{found[0].heads} heads are too few for intervals"
        return f"The strongest rank correlations with the score: {named}; {few}."
    sure = [one for one in shown if (one.score.low or 0.0) * (one.score.high or 0.0) > 0]
    if not sure:
        return "No diagnostic has a rank correlation with the score whose interval excludes 0."
    named = listed([f"{one.title} ({one.part}, {number(one.score.value)})" for one in sure])
    return (
        f"Rank correlations with the score whose interval excludes 0: {named}; {len(sure)} of {len(shown)}, some of "
        "them by chance."
    )


def _means(board: Leaderboard, explanation: Explanation, part: str) -> dict[str, float]:
    found = {row.label: explanation.mean(part, row.label) for row in board.rows}
    return {label: value for label, value in found.items() if value is not None}
