"""How numbers are written, the same everywhere; scores and differences are in points, that is, times 100."""

import json
import re
from collections.abc import Sequence

from eval.report.storage import StoredForm
from eval.report.table import Costs
from eval.verdicts import Design, Scope, Verdict
from experiment.disk.room import bytes_text
from experiment.fields import setting_text

__all__ = [
    "MINUS",
    "WANTED",
    "ahead",
    "amount",
    "bytes_text",
    "chance",
    "change",
    "count",
    "difference",
    "escaped",
    "group",
    "interval",
    "joined",
    "listed",
    "mean_and_spread",
    "one_line",
    "points",
    "queries_needed",
    "rates",
    "ratio",
    "rough",
    "seconds",
    "seeds_needed",
    "share",
    "short_count",
    "span",
    "stored_change",
    "visible",
]

WANTED = (0.005, 0.01, 0.02)
"""Differences for which a report says how many seeds or queries would detect them."""

OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

LISTED = 4
"""Names of a longer list that are written out."""

MINUS = "\N{MINUS SIGN}"


def points(value: float) -> str:
    """Write a score or a spread from 0 to 1 as points: 0.6123 is ``61.23``."""
    return f"{100 * value:.2f}".replace("-", MINUS)


def rough(value: float) -> str:
    """Write the size of a difference that is only roughly known: 0.0083 is ``0.8``."""
    return f"{100 * value:.2f}" if 100 * value < 0.095 else f"{100 * value:.1f}"


def amount(value: float) -> str:
    """Write the size of a difference with its unit: ``1.0 point``, ``0.5 points``."""
    return f"{rough(value)} point{'' if rough(value) == '1.0' else 's'}"


def difference(value: float) -> str:
    """Write a difference with its sign: 0.013 is ``+1.30``."""
    text = f"{100 * value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)


def interval(low: float, high: float) -> str:
    """Write an interval of a difference: ``[+0.70, +1.90]``. No difference of scores is beyond 100 points."""
    return f"[{difference(max(low, -1.0))}, {difference(min(high, 1.0))}]"


def change(scope: Scope) -> str:
    """Write a difference with its interval: ``+1.30 [+0.70, +1.90]``."""
    return f"{difference(scope.difference)} {span(scope)}".rstrip()


def span(scope: Scope) -> str:
    """Write the interval of a difference; nothing if there is none."""
    return "" if scope.low is None or scope.high is None else interval(scope.low, scope.high)


def ahead(verdict: Verdict) -> str:
    """Write in how many seeds a variant is ahead: ``9 of 10``; nothing if the seeds have nothing in common."""
    return "" if verdict.ahead is None else f"{verdict.ahead} of {verdict.seeds}"


def chance(share: float) -> str:
    """Write an estimated probability, never as a certainty."""
    return ">99%" if share > 0.99 else "<1%" if share < 0.01 else f"{100 * share:.0f}%"


def stored_change(stored: StoredForm) -> str:
    """Write the change due to a form of storage, with its interval: ``-0.12 [-0.30, +0.06]``."""
    return f"{difference(stored.change)} {interval(*stored.interval)}" if stored.interval else difference(stored.change)


def count(value: float) -> str:
    """Write an integer with commas between thousands."""
    return f"{value:,.0f}"


def ratio(value: float) -> str:
    """Write a multiple: ``2.1x``."""
    return f"{value:.1f}x" if value < 100 else f"{value:,.0f}x"


def share(value: float) -> str:
    """Write a share in percent: ``37%``."""
    return f"{100 * value:.0f}%"


def seconds(value: float) -> str:
    """Write a duration: ``8.1 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def joined(parts: Sequence[str]) -> str:
    """Join words or names: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def listed(names: Sequence[str]) -> str:
    """Join names, the first few of many: ``a, b, c, d and 9 more``."""
    return joined([*names[:LISTED], f"{len(names) - LISTED} more"] if len(names) > LISTED + 1 else names)


def group(letters: Sequence[str]) -> str:
    """Write the letters of a variant's groups, consecutive ones as a range: ``a-d f``."""
    runs: list[list[str]] = []
    for letter in letters:
        if runs and _number(letter) == _number(runs[-1][-1]) + 1:
            runs[-1].append(letter)
        else:
            runs.append([letter])
    return " ".join(f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 2 else " ".join(run) for run in runs)


def _number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("a") + 1
    return number


def one_line(text: str) -> str:
    """Join the lines of a text, with one space between words."""
    return " ".join(text.split())


def visible(text: str) -> str:
    """Replace what a terminal or browser would obey, or XML and UTF-8 cannot hold.

    These are control characters, overrides of the writing direction, lone surrogates and noncharacters.
    """
    return OBEYED.sub("\N{REPLACEMENT CHARACTER}", text)


def escaped(text: str) -> str:
    r"""Write in JSON the characters that ``visible`` replaces by their codes, ``\u202e``; the value stays the same."""
    return OBEYED.sub(lambda found: json.dumps(found.group())[1:-1], text)


def mean_and_spread(mean: float | None, spread: float | None) -> str:
    """Write a mean over seeds with its spread: ``61.23 ± 0.12``; a dash if no trial counts."""
    if mean is None:
        return "\N{EN DASH}"
    return points(mean) if spread is None else f"{points(mean)} ± {points(spread)}"


def rates(costs: Costs) -> str:
    """Write the learning rates of a variant's trials, and the other settings that its sweep chose."""
    return costs.chosen.text() if costs.chosen else ", ".join(map(setting_text, costs.learning_rates))


def short_count(value: float) -> str:
    """Write a count in a few characters: ``49.2k``, ``4.82M``."""
    for unit in ("", "k", "M"):
        if value < 999.5:
            return f"{value:.0f}{unit}" if value >= 99.5 or not unit else f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}G"


def seeds_needed(design: Design, wanted: float, *, new_queries: bool = True) -> str:
    """Write how many seeds would detect a difference with these queries, for new ones or for these."""
    needed = design.seeds_needed(wanted, new_queries=new_queries)
    return "more than 100" if needed is None else str(needed)


def queries_needed(design: Design, wanted: float) -> str:
    """Write how many queries, over all datasets, would detect a difference with these seeds."""
    needed = design.queries_needed(wanted)
    return "no number of queries is enough; add seeds" if needed is None else f"{needed:,} queries"
