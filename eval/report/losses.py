"""What each form of storage and each further search takes off each head, and whether that differs from the baseline."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from eval.report import format as fmt
from eval.report.canvas import cells_figure
from eval.report.table import Leaderboard
from eval.verdicts import Verdict

__all__ = ["LOSS_HEADING", "loss_figure", "loss_lines", "loss_sentences"]

NAMED = 4
"""Most heads that a sentence names."""


def loss_sentences(board: Leaderboard) -> list[str]:
    """Say which heads lose more or less than the baseline, one sentence for each form, and with which forms none."""
    base = {one.form: one for one in board.baseline_row.stored}
    said, none, few = [], [], []
    for form in base:
        verdicts = board.losses.get(form, {})
        if not verdicts:
            continue
        if all(one.word == "too few seeds" for one in verdicts.values()):
            few.append(form)
            continue
        parts = [
            f"{_named(found)} {what}"
            for word, what in (("worse", "more"), ("better", "less"))
            if (found := {label: one for label, one in verdicts.items() if one.word == word})
        ]
        if parts:
            said.append(
                f"{form}: {'; '.join(parts)} than {board.baseline}, which changes by {_points(base[form].change)}."
            )
        else:
            none.append(form)
    if none:
        said.append(f"No head is distinguishable from {board.baseline} in what it loses with {', '.join(none)}.")
    if few:
        said.append(f"Too few seeds to compare what heads lose with {', '.join(few)}.")
    return said


def _named(verdicts: Mapping[str, Verdict]) -> str:
    """Name rows by the size of their difference, the largest first: ``a (−1.20) and b (−0.80) lose``."""
    ordered = sorted(verdicts, key=lambda label: -abs(verdicts[label].difference))
    names = [f"{label} ({fmt.change(verdicts[label].new_queries)})" for label in ordered[:NAMED]]
    if len(ordered) > NAMED:
        names.append(f"{len(ordered) - NAMED} more")
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{text} lose{'s' if len(ordered) == 1 else ''}"


def _points(change: float) -> str:
    return f"{fmt.difference(change)} points"


def loss_figure(board: Leaderboard) -> Figure | None:
    """Draw the change of each row by each form; in bold where it is distinguishable from its baseline's."""
    rows = [row for row in board.rows if row.stored]
    forms = list(dict.fromkeys(one.form for row in rows for one in row.stored))
    if not forms:
        return None
    changes = [{one.form: one.change for one in row.stored} for row in rows]
    values = np.array([[row.get(form, np.nan) for form in forms] for row in changes])
    verdicts = [[board.losses.get(form, {}).get(row.label) for form in forms] for row in rows]
    bold = [[one is not None and one.word in ("better", "worse") for one in line] for line in verdicts]
    return cells_figure([row.label for row in rows], forms, values, bold, power=0.5)


LOSS_HEADING = (
    *("form", "variant", "bytes_per_vector", "index_bytes", "score", "change", "low", "high", "recall"),
    *("against_baseline", "against_baseline_low", "against_baseline_high", "adjusted_p", "word"),
)


def loss_lines(board: Leaderboard) -> list[list[object]]:
    """Return the data of the figure, one line for each row and form; scores are from 0 to 1."""
    lines: list[list[object]] = []
    for row in board.rows:
        for one in row.stored:
            low, high = one.interval or (None, None)
            verdict = board.losses.get(one.form, {}).get(row.label)
            scope = verdict.new_queries if verdict else None
            against = [scope.difference, scope.low, scope.high, scope.adjusted_p, scope.word] if scope else [None] * 5
            sizes = [one.bytes_per_vector, one.index_bytes, one.score, one.change, low, high, one.recall]
            lines.append([one.form, row.label, *sizes, *against])
    return lines
