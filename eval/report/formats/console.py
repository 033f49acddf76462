"""The leaderboard in a terminal: the answer, a table that fits 80 columns, and the path of the page."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.report import format as fmt
from eval.report.answer import answer, notes
from eval.report.certainty import luck
from eval.report.columns import board_columns
from eval.report.rates import rate_note
from eval.report.table import Leaderboard
from eval.report.words import Tone, tone

__all__ = ["print_board", "wrapped"]

GAP, TEXT_WIDTH = 2, 13
BREAKS = ("(,:", "=", "/", r"\-_.")
"""Characters after which a label may be broken, the best places first."""

STYLES: dict[Tone, str] = {"better": "green", "worse": "red", "equal": "cyan", "open": "dim", "refused": "yellow"}


def print_board(board: Leaderboard, page: Path, console: Console) -> None:
    """Print the leaderboard.

    Args:
        board: What to print.
        page: The HTML page, named below the table.
        console: Where to print.
    """
    console.print()
    console.print(Text(fmt.visible(answer(board)), style="bold"))
    console.print()
    console.print(_table(board, console.width))
    console.print(
        Text(
            f"{board.measure} in points (times 100), mean ± standard deviation over seeds. Differences from "
            f"{fmt.visible(board.against)} with 95% intervals, and verdicts: first for these {board.query_count:,} "
            "queries, below for new queries of this kind.",
            style="dim",
        )
    )
    for remark in filter(None, [luck(board), rate_note(board)]):
        console.print(Text(fmt.visible(remark)))
    for remark in notes(board):
        console.print(Text(fmt.visible(f"Note: {remark}")))
    console.print()
    # One unbroken line, so that the path can be copied or clicked.
    console.print(Text(str(page)), soft_wrap=True)


def _table(board: Leaderboard, width: int) -> Table:
    """Make the table; columns of text wrap, and the first takes the width that the others leave."""
    first, *columns = board_columns(board, "console")
    rows = (*board.rows, *board.references)
    cells = {column: [fmt.visible(column.text(row)) for row in rows] for column in columns}
    widths = {
        column: TEXT_WIDTH
        if column.column.kind == "text"
        else max(len(line) for text in [column.title, *cells[column]] for line in text.split("\n"))
        for column in columns
    }
    labels = [fmt.visible(first.text(row)) for row in rows]
    room = max(len(first.title), width - sum(widths.values()) - GAP * len(columns))
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    table.add_column(first.title, width=min(room, max(map(len, [first.title, *labels]))), overflow="fold")
    for column in columns:
        text = column.column.kind == "text"
        table.add_column(
            Text(column.title), width=widths[column], justify="left" if text else "right", no_wrap=not text
        )
    for place, row in enumerate(rows):
        colour = STYLES[tone(row.verdict)] if row.verdict else ""
        texts = [Text(cells[column][place], style=colour if column.column.toned else "") for column in columns]
        style = {"baseline": "bold", "reference": "dim"}.get(row.kind)
        table.add_row(Text(wrapped(labels[place], room)), *texts, style=style)
    return table


def wrapped(label: str, width: int) -> str:
    """Break a long label at the best places, so that its parts stay readable."""
    lines = [""]
    for piece in _pieces(label, width - 1, BREAKS):
        if lines[-1].strip() and len(lines[-1] + piece.rstrip()) > width:
            lines.append(" ")
        lines[-1] += piece
    return "\n".join(lines)


def _pieces(text: str, width: int, breaks: Sequence[str]) -> Iterator[str]:
    """Cut a text after the first kind of break, and parts that are still too long after the next kinds."""
    if len(text.rstrip()) <= width or not breaks:
        yield text
        return
    for piece in re.findall(rf"[^{breaks[0]}]*[{breaks[0]}] *|[^{breaks[0]}]+", text):
        yield from _pieces(piece, width, breaks[1:])
