"""The leaderboard in a terminal: the answer, a table that fits 80 columns, and where the page lies."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.report import format as fmt
from eval.report.answer import answer, notes
from eval.report.table import Leaderboard, Row

__all__ = ["print_board"]

GAP, VERDICT, VERDICT_WIDTH = 2, 3, 13
BREAKS = ("(,:", "=", "/", r"\-_.")
"""Behind what a label may be broken, best places first."""

STYLES = {"better": "green", "worse": "red", "no difference shown": "dim", "too few seeds": "yellow"}


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
            f"{board.measure} in points (times 100), mean ± spread over seeds; differences to {board.baseline}, "
            "paired by query and seed, with a 95% interval.",
            style="dim",
        )
    )
    for remark in notes(board):
        console.print(Text(fmt.visible(f"Note: {remark}")))
    console.print()
    # One unbroken line, so that the path can be copied or clicked.
    console.print(Text(str(page)), soft_wrap=True)


def _table(board: Leaderboard, width: int) -> Table:
    lines = [_cells(board, row) for row in (*board.rows, *board.references)]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    headers = ["variant", board.measure, "difference [95%]", "verdict", "params"]
    taken = [max(map(len, [header, *column])) for header, column in zip(headers, zip(*lines, strict=True), strict=True)]
    taken[VERDICT] = VERDICT_WIDTH
    room = max(len(headers[0]), width - sum(taken[1:]) - GAP * (len(headers) - 1))
    table.add_column(headers[0], width=min(room, taken[0]), overflow="fold")
    for place, header in enumerate(headers[1:], start=1):
        table.add_column(
            Text(header), width=taken[place], justify="left" if place == VERDICT else "right", no_wrap=place != VERDICT
        )
    for line, row in zip(lines, (*board.rows, *board.references), strict=True):
        texts = [Text(_wrapped(line[0], room)), *(Text(cell) for cell in line[1:])]
        texts[VERDICT].stylize(STYLES.get(row.verdict.word, "") if row.verdict else "")
        table.add_row(*texts, style={"baseline": "bold", "reference": "dim"}.get(row.kind))
    return table


def _cells(board: Leaderboard, row: Row) -> list[str]:
    verdict = row.verdict
    word = "; ".join([verdict.word, *fmt.missing(row)]) if verdict else fmt.verdict_cell(row)
    return [
        fmt.visible(row.label),
        fmt.mean_and_spread(row.mean(board.measure), row.spread(board.measure)),
        fmt.change(verdict) if verdict else "",
        word,
        fmt.short_count(row.costs.parameters) if row.costs else "",
    ]


def _wrapped(label: str, width: int) -> str:
    """Break a long label where it may be broken, so that its parts stay readable."""
    lines = [""]
    for piece in _pieces(label, width - 1, BREAKS):
        if lines[-1].strip() and len(lines[-1] + piece.rstrip()) > width:
            lines.append(" ")
        lines[-1] += piece
    return "\n".join(lines)


def _pieces(text: str, width: int, breaks: Sequence[str]) -> Iterator[str]:
    """Cut a text behind the first kind of break, and what is still too long behind the next kinds."""
    if len(text.rstrip()) <= width or not breaks:
        yield text
        return
    for piece in re.findall(rf"[^{breaks[0]}]*[{breaks[0]}] *|[^{breaks[0]}]+", text):
        yield from _pieces(piece, width, breaks[1:])
