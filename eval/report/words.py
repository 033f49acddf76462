"""What the report calls a verdict, and in which tone it shows it: the only place that knows the verdicts' words."""

from typing import Literal

from eval.report.format import rough
from eval.report.table import Row
from eval.verdicts import Verdict

__all__ = ["TONES", "Tone", "tone", "verdict_cell"]

Tone = Literal["better", "worse", "equal", "open", "refused"]

TONES: dict[str, Tone] = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equal",
    "no difference shown": "open",
    "undecided": "open",
    "too few seeds": "refused",
}
"""Tone of each verdict: colours and styles are chosen by it. ``open``: the data decide nothing."""


def tone(verdict: Verdict) -> Tone:
    """Return the tone in which a verdict is shown."""
    return TONES[verdict.word]


def verdict_cell(row: Row, *, power: bool = False) -> str:
    """Write the entry of a row in the verdict column, with what could have been detected if ``power`` is set."""
    if row.verdict is not None:
        main = f"{row.verdict.word}{_power(row.verdict) if power else ''}"
    elif row.kind == "variant":
        main = ""
    else:
        main = row.kind
    failed = f"{len(row.failures)} missing" if row.failures and row.kind != "reference" else ""
    return "; ".join(part for part in (main, failed) if part)


def _power(verdict: Verdict) -> str:
    """Say what the experiment could have detected, if a verdict leaves the question open."""
    if tone(verdict) != "open" or verdict.smallest_shown is None:
        return ""
    return f" (could have detected {rough(verdict.smallest_shown)})"
