"""The leaderboard as Markdown, for a README or a model card."""

import html
import re
from collections.abc import Iterable, Sequence

from eval.report import format as fmt
from eval.report.answer import answer, notes
from eval.report.certainty import luck
from eval.report.columns import board_columns
from eval.report.effect_text import effect_title, effect_word
from eval.report.rates import rate_note
from eval.report.storage import StoredForm
from eval.report.table import Leaderboard, Row

__all__ = ["escape", "leaderboard_lines", "markdown_table", "markdown_text"]


def markdown_text(board: Leaderboard) -> str:
    """Return leaderboard.md."""
    every = (*board.rows, *board.references)
    lines = [f"# {escape(board.experiment.name)}", "", *leaderboard_lines(board)]
    if len(board.datasets) > 1:
        header = ["variant", *map(escape, board.datasets)]
        rows = [[escape(row.label), *_dataset_cells(board, row)] for row in every]
        lines += [f"## {escape(board.measure)} by dataset", "", *markdown_table(header, rows), ""]
    if any(row.stored for row in board.rows):
        header = ["variant", "stored as", "bytes per vector", "index", escape(board.measure), "change [95%]", "found"]
        rows = [_stored_cells(row.label, one) for row in board.rows for one in row.stored]
        lines += ["## Storage against quality", "", *markdown_table(header, rows), ""]
    lines += _factor_lines(board)
    said = [luck(board), rate_note(board)]
    remarks = [*filter(None, said), *notes(board)]
    if remarks:
        lines += ["## Notes", "", *(f"- {escape(remark)}" for remark in remarks), ""]
    return "\n".join(lines)


def leaderboard_lines(board: Leaderboard) -> list[str]:
    """Return the answer, the table of all rows, and what its numbers are about."""
    columns = board_columns(board, "markdown")
    return [
        f"**{escape(answer(board))}**",
        "",
        *([escape(board.experiment.description), ""] if board.experiment.description else []),
        *markdown_table(
            [escape(column.title) for column in columns],
            [
                [_label(row), *(escape(column.text(row)) for column in columns[1:])]
                for row in (*board.rows, *board.references)
            ],
        ),
        "",
        "Scores and differences are in points (times 100): the mean over datasets and seeds ± the standard deviation",
        f"over seeds. Differences from {escape(board.against)} have two 95% intervals: for these",
        f"{board.query_count:,} queries and new seeds, and for new queries of this kind.",
        "",
    ]


def escape(text: str) -> str:
    """Write any text so that Markdown shows it literally: no markup, no HTML, one line."""
    return re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", html.escape(fmt.visible(fmt.one_line(text)), quote=False))


def _factor_lines(board: Leaderboard) -> list[str]:
    lines: list[str] = []
    for grid in board.factors:
        if grid.effects is not None:
            header = ["effect", "these queries [95%]", "new queries [95%]", "verdicts"]
            rows = [
                [
                    escape(effect_title(one)),
                    escape(fmt.change(one.these_queries)),
                    escape(fmt.span(one.new_queries)),
                    f"{effect_word(one, one.these_queries)}; {effect_word(one, one.new_queries)}",
                ]
                for one in (*grid.effects.main, *grid.effects.interactions)
            ]
            lines += [
                f"## Factors of {escape(grid.grid)}",
                "",
                *markdown_table([escape(one) for one in header], rows),
                "",
            ]
    return lines


def _label(row: Row) -> str:
    return f"*{escape(row.label)}*" if row.kind == "reference" else escape(row.label)


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
        "" if one.recall is None else fmt.share(one.recall),
    ]


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table whose first column is text and whose others are numbers."""
    rule = ["---", *("---:" for _ in header[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
