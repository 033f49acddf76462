"""What the report calls a verdict, and in which tone it shows it: the only place that knows the verdicts' words."""

from typing import Literal

from eval.report import format as fmt
from eval.report.table import Leaderboard, Row
from eval.verdicts import Scope, Verdict, Word

__all__ = ["TONES", "Tone", "left_race", "scope_tone", "tone", "verdict_cell", "verdict_text", "word_text"]

Tone = Literal["better", "worse", "equal", "open", "refused"]

TONES: dict[Word, Tone] = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equal",
    "no difference shown": "open",
    "undecided": "open",
    "too few seeds": "refused",
}
"""Tone of each verdict: colours and styles are chosen by it. ``open``: the data decide nothing."""


def scope_tone(scope: Scope) -> Tone:
    """Return the tone in which a verdict in one scope is shown."""
    return TONES[scope.word]


def tone(verdict: Verdict) -> Tone:
    """Return the tone of a row: that of these queries; of new ones for two fixed models."""
    return scope_tone(verdict.new_queries if verdict.fixed else verdict.these_queries)


def word_text(word: Word, resolution: float | None) -> str:
    """Write a verdict: ``better``, ``equivalent within 1.0 point``."""
    if word != "equivalent" or resolution is None:
        return word
    return f"equivalent within {fmt.amount(resolution)}"


def verdict_text(verdict: Verdict, resolution: float | None) -> str:
    """Write a verdict in both scopes: ``better on these queries; no difference shown for new ones``."""
    here, new = (word_text(one.word, resolution) for one in (verdict.these_queries, verdict.new_queries))
    if verdict.fixed:
        return f"{new}, for these two models"
    if here == new:
        return f"{here}, also for new queries" if tone(verdict) in ("better", "worse", "equal") else here
    return f"{here} on these queries; {new} for new ones"


def left_race(board: Leaderboard, row: Row) -> str:
    """Say when a variant left the race; empty for one that did not, and without a race."""
    lost = board.race is not None and row.label in board.race.lost and row.verdict is not None
    return f"left the race after {len(row.seeds)} seeds" if lost else ""


def verdict_cell(board: Leaderboard, row: Row) -> str:
    """Write the entry of a row in the verdict column."""
    if row.verdict is not None:
        main = verdict_text(row.verdict, board.resolution)
    else:
        main = "" if row.kind == "variant" else row.kind
    failed = f"{len(row.failures)} missing" if row.failures and row.kind != "reference" else ""
    left = left_race(board, row)
    if left and row.verdict is not None and tone(row.verdict) == "open":
        main = ""  # Without further seeds, it was not to be decided.
    return "; ".join(part for part in (main, left, failed) if part)
