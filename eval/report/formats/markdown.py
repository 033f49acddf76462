"""The leaderboard as Markdown, for a README or a model card."""

import html
import re
from collections.abc import Iterable, Sequence

from eval.report import format as fmt
from eval.report.answer import answer, notes
from eval.report.linearised import column_title, if_linearised
from eval.report.storage import StoredForm
from eval.report.table import Leaderboard, Row

__all__ = ["escape", "markdown_table", "markdown_text"]


def markdown_text(board: Leaderboard) -> str:
    """Return leaderboard.md."""
    lines = [
        f"# {escape(board.experiment.name)}",
        "",
        f"**{escape(answer(board))}**",
        "",
        *([escape(board.experiment.description), ""] if board.experiment.description else []),
        *markdown_table(_header(board), [_cells(board, row) for row in (*board.rows, *board.references)]),
        "",
        f"Scores and differences are points (times 100): {escape(board.measure)}, mean over data sets and seeds ±",
        f"the spread over seeds; differences to {escape(board.baseline)} are paired by query and seed, with a 95%",
        "interval.",
        "",
    ]
    if len(board.datasets) > 1:
        header = ["variant", *map(escape, board.datasets)]
        rows = [[escape(row.label), *_dataset_cells(board, row)] for row in (*board.rows, *board.references)]
        lines += [f"## {escape(board.measure)} by data set", "", *markdown_table(header, rows), ""]
    if any(row.stored for row in board.rows):
        header = ["variant", "stored as", "bytes a vector", "index", escape(board.measure), "change [95%]"]
        rows = [_stored_cells(row.label, one) for row in board.rows for one in row.stored]
        lines += ["## Storage against quality", "", *markdown_table(header, rows), ""]
    remarks = notes(board)
    if remarks:
        lines += ["## Notes", "", *(f"- {escape(remark)}" for remark in remarks), ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Write any text so that Markdown shows it as it stands: no markup, no HTML, one line."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", html.escape(one_line, quote=False))


def _header(board: Leaderboard) -> list[str]:
    return [
        "variant",
        *map(escape, board.experiment.measures),
        "difference [95%]",
        "verdict",
        "parameters",
        "multiply-adds per token",
        "folds",
        "training",
        "learning rate",
        *([escape(title)] if (title := column_title(board)) else []),
    ]


def _cells(board: Leaderboard, row: Row) -> list[str]:
    verdict, costs = row.verdict, row.costs
    return [
        escape(row.label) if row.kind != "reference" else f"*{escape(row.label)}*",
        *(fmt.mean_and_spread(row.mean(measure), row.spread(measure)) for measure in board.experiment.measures),
        escape(fmt.change(verdict)) if verdict else "",
        fmt.verdict_cell(row),
        fmt.count(costs.parameters) if costs else "",
        fmt.count(costs.multiply_adds) if costs else "",
        ("yes" if costs.folds else "no") if costs else "",
        fmt.seconds(costs.train_s) if costs else "",
        escape(fmt.rates(costs)) if costs else "",
        *([fmt.mean_and_spread(if_linearised(board, row), None) if costs else ""] if column_title(board) else []),
    ]


def _dataset_cells(board: Leaderboard, row: Row) -> list[str]:
    cells = []
    for name in board.datasets:
        mean, verdict = row.mean(board.measure, name), row.dataset_verdicts.get(name)
        mark = f" ({fmt.difference(verdict.difference)})" if verdict else ""
        cells.append("" if mean is None else escape(f"{fmt.points(mean)}{mark}"))
    return cells


def _stored_cells(label: str, one: StoredForm) -> list[str]:
    return [
        escape(label),
        escape(one.form),
        f"{one.bytes_per_vector:g}",
        fmt.bytes_text(one.index_bytes),
        fmt.points(one.score),
        escape(fmt.stored_change(one)),
    ]


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table whose first column is text and whose others are numbers."""
    rule = ["---", *("---:" for _ in header[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
