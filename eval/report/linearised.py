"""What a variant would score with the best linear stand-in in its head's place: the rest of its gain was non-linear."""

import numpy as np

from eval.report.table import Leaderboard, Row

__all__ = ["column_title", "if_linearised"]


def column_title(board: Leaderboard) -> str | None:
    """Return the title of the column, or None where no variant has a stand-in."""
    has_one = any(row.costs and not row.costs.folds and if_linearised(board, row) is not None for row in board.rows)
    return f"{board.measure} if linearised" if has_one else None


def if_linearised(board: Leaderboard, row: Row) -> float | None:
    """Return the mean over data sets and seeds, as ``row.mean`` is; a head that folds is its own stand-in.

    None for a reference, and where not every trial of the row has one.
    """
    if row.costs is None:
        return None
    if row.costs.folds:
        return row.mean(board.measure)
    trials = [one for one in board.experiment.trials if one.label == row.label and one.seed in row.seeds]
    found = [trial.evaluations[name].record.linearised for trial in trials for name in board.datasets]
    means = [one.means[board.measure] for one in found if one is not None]
    return float(np.mean(means)) if means and len(means) == len(found) else None
