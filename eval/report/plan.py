"""How many seeds and queries it takes to detect a difference, predicted from an experiment's trials."""

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.report import format as fmt
from eval.report.reading import load_experiment
from eval.report.table import Leaderboard, build_leaderboard
from eval.verdicts import Design
from projheads.errors import ProjheadsError

__all__ = ["plan_value", "print_plan"]

SEEDS = (3, 5, 8, 12, 20)
QUERIES = (0.5, 1.0, 2.0, 4.0, 10.0)


def plan_value(folder: Path) -> dict[str, Any]:
    """Return the numbers of ``print_plan``, unrounded and from 0 to 1; see there for the errors."""
    board, design = _read(folder)
    return {
        "measure": board.measure,
        "baseline": board.baseline,
        **dataclasses.asdict(design),
        "seeds": design.seeds,
        "queries": list(design.queries),
        "detectable": [
            {"seeds": seeds, "queries": round(sum(design.queries) * factor), "difference": found}
            for seeds in _seeds(design)
            for factor, found in zip(QUERIES, _detectable(design, seeds), strict=True)
        ],
        "detectable_on_these_queries": [
            {"seeds": seeds, "difference": design.smallest_shown(seeds, new_queries=False)} for seeds in _seeds(design)
        ],
    }


def print_plan(folder: Path, console: Console | None = None) -> None:
    """Print what larger and smaller experiments like this one could detect.

    Args:
        folder: The experiment's folder, with at least two seeds of the baseline and of one other variant.
        console: Where to print; None for the terminal.

    Raises:
        ProjheadsError: If the trials say nothing about the variance over seeds, or cannot be read.
    """
    board, design = _read(folder)
    console, total = console or Console(), sum(design.queries)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("seeds", justify="right")
    table.add_column("these queries", justify="right", no_wrap=True)
    for factor in QUERIES:
        table.add_column(f"{round(total * factor):,} new", justify="right", no_wrap=True)
    for count in _seeds(design):
        here = design.smallest_shown(count, new_queries=False)
        cells = [fmt.points(difference) for difference in (here, *_detectable(design, count))]
        table.add_row(str(count), *cells, style="bold" if count == design.seeds else None)
    where = f"{len(design.queries)} datasets" if len(design.queries) > 1 else next(iter(board.datasets))
    variants = "variant" if design.comparisons == 1 else "variants"
    console.print()
    console.print(
        Text(
            f"Smallest difference in {board.measure}, in points, detected with a probability of 80% "
            f"({where}; {design.comparisons} {variants} compared with {board.against}): on these {total:,} queries, "
            "and for new queries, by how many are asked. The numbers are for the variant that needs the most."
        )
    )
    console.print()
    console.print(table)
    console.print()
    for wanted in fmt.WANTED:
        on_these, on_new = (fmt.seeds_needed(design, wanted, new_queries=scope) for scope in (False, True))
        console.print(Text(f"To detect {fmt.points(wanted)} points:"))
        console.print(Text(f"    on these {total:,} queries: {on_these} seeds"))
        console.print(Text(f"    for new queries, with as many: {on_new} seeds"))
        console.print(Text(f"    for new queries, with {design.seeds} seeds: {fmt.queries_needed(design, wanted)}"))


def _read(folder: Path) -> tuple[Leaderboard, Design]:
    board = build_leaderboard(load_experiment(folder))
    if board.design is None:
        raise ProjheadsError(
            f"{folder}: a plan needs at least two evaluated seeds of {board.baseline} and of one other variant; "
            "train more seeds"
        )
    return board, board.design


def _seeds(design: Design) -> list[int]:
    return sorted({*SEEDS, design.seeds})


def _detectable(design: Design, seeds: int) -> list[float]:
    return [design.smallest_shown(seeds, factor) for factor in QUERIES]
