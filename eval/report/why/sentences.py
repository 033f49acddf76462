"""What a diagnostic says about the variants, in words."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eval.report import format as fmt
from eval.report.explanations import Explanation
from eval.report.table import Leaderboard, Row
from eval.report.why.bands import Band, Split
from eval.report.why.predict import Prediction

__all__ = [
    "alarm",
    "branch_means",
    "by_head",
    "leader",
    "number",
    "prediction_sentence",
    "sentence",
    "split_sentence",
]

BRANCHES = "branches: "
"""How the parts of a diagnostic begin that are branches of heads, of which each head has others."""


def number(value: float) -> str:
    """Write a value with three digits; what is 0 but for rounding errors is 0."""
    if abs(value) < 1e-9:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def sentence(board: Leaderboard, explanation: Explanation) -> str:
    """Say which heads are lowest and highest, and where the baseline is; of branches, which are.

    Of what training changes, it is about the end, with the value at the start. With axes, values are means over their
    points.
    """
    part, over = explanation.parts[0], ", mean over the settings" if _has_points(board) else ""
    if part.startswith(BRANCHES):
        named = {f"{branch} of {head}": value for (head, branch), value in branch_means(board, explanation).items()}
        low, high = min(named, key=named.__getitem__), max(named, key=named.__getitem__)
        return (
            f"{explanation.meaning.title}{over}: largest for {high} ({number(named[high])}), smallest for {low} "
            f"({number(named[low])})."
        )
    when, _, of = part.partition(": ")
    last = f"end: {of}" if of else "end"
    before: dict[str, float] = {}
    if when == "start" and last in explanation.parts:
        before, part = head_means(board, explanation, part), last
    means = head_means(board, explanation, part)
    if not means:
        return ""

    def written(head: str) -> str:
        return number(means[head]) + (f", from {number(before[head])} at the start" if head in before else "")

    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    subject = f"{explanation.meaning.title} ({part})" if len(explanation.parts) > 1 else explanation.meaning.title
    if number(means[low]) == number(means[high]):
        return f"{subject}{over}: {number(means[low])} for every head."
    text = f"{subject}{over}: lowest for {low} ({written(low)}), highest for {high} ({written(high)})"
    base = heads_of(board)[board.baseline]
    if base in means and base not in (low, high):
        text += f"; the baseline has {written(base)}"
    return f"{text}."


def heads_of(board: Leaderboard) -> dict[str, str]:
    """Return the head of each row of a variant."""
    return {trial.label: trial.record.label for trial in board.experiment.trials}


def _has_points(board: Leaderboard) -> bool:
    heads = heads_of(board)
    return len(heads) > len(set(heads.values()))


def head_means(board: Leaderboard, explanation: Explanation, part: str) -> dict[str, float]:
    """Return a part's mean of each head, over its points of the axes."""
    values: dict[str, list[float]] = {}
    heads = heads_of(board)
    for label, value in _means(board, explanation, part).items():
        values.setdefault(heads[label], []).append(value)
    return {head: float(np.mean(some)) for head, some in values.items()}


def branch_means(board: Leaderboard, explanation: Explanation) -> dict[tuple[str, str], float]:
    """Return the mean of each branch of each head, the largest first."""
    found = {
        (head, part.removeprefix(BRANCHES)): value
        for part in explanation.parts
        for head, value in head_means(board, explanation, part).items()
    }
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def alarm(board: Leaderboard, explanation: Explanation) -> tuple[str, str] | None:
    """Return what a diagnostic warns of, and the heads that are beyond its limits; None for one without limits."""
    meaning, part = explanation.meaning, explanation.parts[0]
    means = _means(board, explanation, part)
    if not meaning.alarm or not means:
        return None
    limits = [f"above {number(meaning.above)}"] if meaning.above is not None else []
    limits += [f"below {number(meaning.below)}"] if meaning.below is not None else []
    beyond = {
        label: value
        for label, value in means.items()
        if (meaning.above is not None and value > meaning.above)
        or (meaning.below is not None and value < meaning.below)
    }
    said = f"{fmt.listed(by_head(board, beyond, number)) if beyond else 'no head'}. {meaning.title} ({part}) "
    said += f"{' or '.join(limits)} counts as {meaning.alarm}"
    averages = head_means(board, explanation, part)
    base = heads_of(board)[board.baseline]
    ends = [] if beyond else [choose(averages, key=averages.__getitem__) for choose in (min, max)]
    known = [f"{head} has {number(averages[head])}" for head in dict.fromkeys([*ends, base]) if head in averages]
    known = [] if any(heads_of(board)[label] == base for label in beyond) else known
    for label in [one.label for one in board.experiment.references if one.record.name == "backbone"]:
        value = explanation.mean(part, label)
        known += [] if value is None else [f"the {label} has {number(value)}"]
    return f"{meaning.alarm[:1].upper()}{meaning.alarm[1:]}", f"{said}{'; ' if known else ''}{', '.join(known)}."


def by_head(board: Leaderboard, values: Mapping[str, float], write: Callable[[float], str]) -> list[str]:
    """Name rows with their values, the farthest from 0 first; a head at several points of the axes is named once."""
    points: dict[str, list[str]] = {}
    for trial in board.experiment.trials:
        points.setdefault(trial.record.label, []).append(trial.label)
    named = []
    for head, labels in points.items():
        here = [label for label in dict.fromkeys(labels) if label in values]
        total = len(dict.fromkeys(labels))
        ends = [write(one([values[label] for label in here])) for one in (min, max)] if here else []
        where = f" at {len(here)} of {total} settings" if len(here) < total else " at every setting"
        name = here[0] if len(here) == 1 else f"{head}{where}"
        named += (
            [(max(abs(values[label]) for label in here), f"{name} ({' to '.join(dict.fromkeys(ends))})")]
            if here
            else []
        )
    return [text for _, text in sorted(named, key=lambda one: -one[0])]


def leader(board: Leaderboard) -> Row | None:
    """Return the row with the largest difference from its baseline, of those that are better if there are any."""
    judged = [row for row in board.rows if row.verdict is not None]
    better = [row for row in judged if row.verdict is not None and row.verdict.word == "better"]
    return max(better or judged, key=lambda row: row.verdict.difference if row.verdict else 0.0, default=None)


def split_sentence(board: Leaderboard, split: Split) -> str:
    """Say where the leader gains most and least, and on which groups of queries some row differs from its baseline."""
    rows = [row.label for row in board.rows if any(row.label in band.differences for band in split.bands)]
    if not rows:
        return ""
    best = leader(board)
    name = best.label if best is not None and best.label in rows else rows[0]
    bands = [band for band in split.bands if name in band.differences]
    most, least = (choose(bands, key=lambda band: band.differences[name][0]) for choose in (max, min))
    text = f"{name}: {change(most, name)} points on queries {split.where.format(most.name)} ({most.queries} queries)"
    if most is not least:
        text += f", {change(least, name)} on those {split.where.format(least.name)} ({least.queries})"
        if least.differences[name][2] > most.differences[name][1]:
            text += "; the intervals overlap"
    every = [one for band in split.bands for one in band.differences.values()]
    differing = [
        f"{band.name}: {', '.join(parts)}" for band in split.bands if (parts := _signs(list(band.differences.values())))
    ]
    if not differing:
        return f"{text}. No interval of any head excludes 0."
    count = sum(low > 0 or high < 0 for _, low, high in every)
    return (
        f"{text}. Of {len(every)} intervals of all heads, {count} exclude{'s' if count == 1 else ''} 0, "
        f"{_by_chance(len(every))}: {'; '.join(differing)}."
    )


def change(band: Band, row: str) -> str:
    """Write a row's difference on a band with its interval, in points."""
    value, low, high = band.differences[row]
    return f"{fmt.difference(value)} {fmt.interval(low, high)}"


def _by_chance(count: int) -> str:
    """Say how many of so many 95% intervals exclude 0 where nothing differs."""
    return f"where about {max(1, round(0.05 * count))} would by chance"


def _signs(differences: Sequence[tuple[float, float, float]]) -> list[str]:
    """Count the variants whose interval is above 0, and those whose interval is below."""
    above, below = sum(low > 0 for _, low, _ in differences), sum(high < 0 for _, _, high in differences)
    return [f"{count} {what}" for count, what in ((above, "better"), (below, "worse")) if count]


def prediction_sentence(found: Sequence[Prediction]) -> str:
    """Say which diagnostics go with the score."""
    if not found:
        return ""
    shown = [one for one in found if one.score.low is not None and one.score.high is not None]
    if not shown:
        named = fmt.listed([_correlated(one) for one in found[:3]])
        few = f"{found[0].heads} heads are too few for intervals"
        return f"{few}. The strongest rank correlations with the score are with {named}."
    sure = [one for one in shown if (one.score.low or 0.0) * (one.score.high or 0.0) > 0]
    if not sure:
        return f"no. None of {len(shown)} rank correlations with the score has an interval that excludes 0."
    return (
        f"Of {len(shown)} rank correlations with the score, {len(sure)} ha{'ve' if len(sure) > 1 else 's'} an interval "
        f"that excludes 0, {_by_chance(len(shown))}: {fmt.listed([_correlated(one) for one in sure])}."
    )


def _correlated(one: Prediction) -> str:
    title = one.title[:1].lower() + one.title[1:]
    name = f"{title} {one.part}" if title.endswith(" with") else f"{title}, {one.part}"
    return f"{name} ({number(one.score.value)})"


def _means(board: Leaderboard, explanation: Explanation, part: str) -> dict[str, float]:
    found = {row.label: explanation.mean(part, row.label) for row in board.rows}
    return {label: value for label, value in found.items() if value is not None}
