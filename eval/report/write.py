"""Write the report's files and print it; compare experiments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from eval.report import drawing
from eval.report.cards import update_cards
from eval.report.compare import merge_experiments
from eval.report.figures import FIGURES
from eval.report.formats.console import print_board
from eval.report.formats.data_files import csv_text, json_text
from eval.report.formats.html import html_text
from eval.report.formats.latex import latex_text
from eval.report.formats.markdown import markdown_text
from eval.report.reading import load_experiment
from eval.report.results import Experiment
from eval.report.table import Leaderboard, build_leaderboard
from eval.report.why.page import write_why
from experiment.disk.files import write_bytes, write_text
from experiment.disk.layout import ExperimentFolder

__all__ = ["FORMATS", "Format", "compare", "write_report"]


@dataclass(frozen=True)
class Format:
    """A form of the report: its file, and its text, made from the leaderboard and the SVG of each figure by name."""

    file: str
    text: Callable[[Leaderboard, Mapping[str, bytes]], str]


FORMATS: dict[str, Format] = {
    "markdown": Format("leaderboard.md", lambda board, _: markdown_text(board)),
    "latex": Format("leaderboard.tex", lambda board, _: latex_text(board)),
    "csv": Format("leaderboard.csv", lambda board, _: csv_text(board)),
    "json": Format("leaderboard.json", lambda board, _: json_text(board)),
    "html": Format("leaderboard.html", html_text),
}
"""The formats by name; a new one is one entry, and ``eval.report.columns`` says which columns it shows."""


def write_report(folder: Path, console: Console | None = None) -> Path:
    """Write the leaderboard of an experiment in every format, and into the model cards of its trials.

    Args:
        folder: The experiment's folder.
        console: Where to print the leaderboard too; None to print nothing.

    Returns:
        The HTML page.

    Raises:
        ProjheadsError: If there is nothing to report, or result files are broken or do not belong together.
    """
    ExperimentFolder(folder).remove_leftovers()
    board = build_leaderboard(load_experiment(folder))
    update_cards(board)
    return _write_board(board, ExperimentFolder(folder).report, console)


def compare(
    folders: Sequence[Path], target: Path, console: Console | None = None, others: Sequence[Experiment] = ()
) -> Path:
    """Write one leaderboard of several experiments in every format.

    Args:
        folders: The experiments' folders; the first one's baseline is the baseline for all.
        target: Folder of the leaderboard.
        console: As for ``write_report``.
        others: Results of other programs, read by ``eval.foreign``.

    Returns:
        The HTML page.

    Raises:
        ProjheadsError: If the experiments cannot be paired.
    """
    return _write_board(build_leaderboard(merge_experiments(folders, others)), target, console)


def _write_board(board: Leaderboard, target: Path, console: Console | None) -> Path:
    drawn: dict[str, bytes] = {}
    with drawing.style():
        for name, kind in FIGURES.items():
            figure = kind.draw(board)
            if figure is None:
                continue
            drawn[name] = drawing.svg_bytes(figure)
            write_bytes(target / "figures" / f"{name}.svg", drawn[name])
            write_bytes(target / "figures" / f"{name}.png", drawing.png_bytes(figure))
    write_why(board, target)
    for form in FORMATS.values():
        write_text(target / form.file, form.text(board, drawn))
    page = target / FORMATS["html"].file
    if console is not None:
        print_board(board, page, console)
    return page
