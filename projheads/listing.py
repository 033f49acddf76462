"""Human-readable command output: lines and tables, rendered by rich on a terminal if installed, else as plain text."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Block", "Table", "print_blocks"]


@dataclass(frozen=True)
class Table:
    """Rows of text cells under a title.

    Attributes:
        title: What the rows are.
        rows: Rows of equal length; the first cell is the row's name.
    """

    title: str
    rows: Sequence[tuple[str, ...]]


Block: TypeAlias = str | Table


def print_blocks(blocks: Sequence[Block], console: Any = None) -> None:
    """Print lines and tables to standard output.

    Args:
        blocks: The lines and tables, in order.
        console: A rich console; None creates one if rich is installed and the output is a terminal.
    """
    if console is None and sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console

        console = Console()
    for block in blocks:
        if console is not None:
            _print_rich(block, console)
        else:
            print(block if isinstance(block, str) else _plain(block))


def _plain(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True))
    widths = [max(map(len, column)) for column in columns[:-1]]
    lines = [table.title]
    for row in table.rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  " + "  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def _print_rich(block: Block, console: Any) -> None:
    import rich.table

    if isinstance(block, str):
        console.print(block, markup=False, highlight=False)
        return
    table = rich.table.Table(
        title=block.title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 1)
    )
    for number in range(len(block.rows[0])):
        table.add_column(style="cyan" if number == 0 else "", overflow="fold")
    for row in block.rows:
        table.add_row(*(_escape(cell) for cell in row))
    console.print(table)


def _escape(cell: str) -> Any:
    from rich.text import Text

    return Text(cell)
