"""What a variant would score with its head replaced by the best linear fit: the rest of its gain is nonlinear."""

import numpy as np

from eval.report.table import Leaderboard, Row

__all__ = ["has_linearised", "if_linearised"]


def has_linearised(board: Leaderboard) -> bool:
    """Return whether some variant that does not fold was scored with a linear fit."""
    return any(row.costs and not row.costs.folds and if_linearised(board, row) is not None for row in board.rows)


def if_linearised(board: Leaderboard, row: Row) -> float | None:
    """Return the mean over datasets and seeds, as ``row.mean`` is; a head that folds is its own linear fit.

    None for a reference, and if some trial of the row was not scored with one.
    """
    if row.costs is None:
        return None
    if row.costs.folds:
        return row.mean(board.measure)
    trials = [one for one in board.experiment.trials if one.label == row.label and one.seed in row.seeds]
    found = [trial.evaluations[name].record.linearised for trial in trials for name in board.datasets]
    means = [one.means[board.measure] for one in found if one is not None]
    return float(np.mean(means)) if means and len(means) == len(found) else None
