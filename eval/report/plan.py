"""How many seeds and queries a difference needs, foreseen from the trials at hand."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.report import format as fmt
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from projheads.errors import ProjheadsError

__all__ = ["print_plan"]

SEEDS = (3, 5, 8, 12, 20)
QUERIES = (0.5, 1.0, 2.0, 4.0, 10.0)


def print_plan(folder: Path, console: Console | None = None) -> None:
    """Print what larger and smaller experiments like this one could show.

    Args:
        folder: The experiment's folder, with at least two seeds of the baseline and of another variant.
        console: Where to print; None for the terminal.

    Raises:
        ProjheadsError: If the trials say nothing about the scatter over seeds, or cannot be read.
    """
    board = build_leaderboard(load_experiment(folder))
    design = board.design
    if design is None:
        raise ProjheadsError(
            f"{folder}: a plan needs two evaluated seeds or more of {board.baseline} and of another variant; train them"
        )
    console = console or Console()
    total = sum(design.queries)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("seeds", justify="right")
    for factor in QUERIES:
        table.add_column(f"{round(total * factor):,} queries", justify="right", no_wrap=True)
    for count in sorted({*SEEDS, design.seeds}):
        style = "bold" if count == design.seeds else None
        cells = [fmt.points(design.smallest_shown(count, factor)) for factor in QUERIES]
        table.add_row(str(count), *cells, style=style)
    where = f"{len(design.queries)} data sets" if len(design.queries) > 1 else next(iter(board.datasets))
    console.print()
    console.print(
        Text(
            f"Smallest difference in {board.measure}, in points, that is shown with a probability of 80% "
            f"({where}; {design.comparisons} variants against {board.baseline}):"
        )
    )
    console.print()
    console.print(table)
    console.print()
    for wanted in fmt.WANTED:
        seeds, queries = fmt.seeds_needed(design, wanted), fmt.queries_needed(design, wanted)
        console.print(Text(f"{fmt.points(wanted)} points needs"))
        console.print(Text(f"    with the present {total:,} queries: {seeds} seeds"))
        console.print(Text(f"    with the present {design.seeds} seeds: {queries}"))
