"""Write the report's files, print it, and compare experiments: what the command line calls."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from eval.report import drawing
from eval.report.compare import merge_experiments
from eval.report.figures import FIGURES
from eval.report.formats.data_files import csv_text, json_value
from eval.report.formats.html import html_text
from eval.report.formats.latex import latex_text
from eval.report.formats.markdown import markdown_text
from eval.report.formats.terminal import print_board
from eval.report.reading import load_experiment
from eval.report.table import Leaderboard, build_leaderboard
from experiment.disk.files import write_bytes, write_json, write_text
from experiment.disk.layout import ExperimentFolder

__all__ = ["compare", "print_leaderboard", "write_report"]


def write_report(folder: Path) -> Path:
    """Write the leaderboard of an experiment in every format.

    Args:
        folder: The experiment's folder.

    Returns:
        The HTML page.

    Raises:
        ProjheadsError: If there is nothing to report, or result files are broken or do not belong together.
    """
    return write_board(build_leaderboard(load_experiment(folder)), ExperimentFolder(folder).report)


def print_leaderboard(folder: Path, console: Console | None = None) -> None:
    """Print the leaderboard of an experiment; see ``write_report`` for its errors.

    Args:
        folder: The experiment's folder.
        console: Where to print; None for the terminal.
    """
    board = build_leaderboard(load_experiment(folder))
    print_board(board, ExperimentFolder(folder).report / "leaderboard.html", console or Console())


def compare(folders: Sequence[Path], target: Path, console: Console | None = None) -> Path:
    """Write and print one leaderboard of several experiments.

    Args:
        folders: The experiments' folders; the first one's baseline is the baseline of all.
        target: Folder of the leaderboard.
        console: Where to print; None for the terminal.

    Returns:
        The HTML page.

    Raises:
        ProjheadsError: If the experiments cannot be paired.
    """
    board = build_leaderboard(merge_experiments(folders))
    page = write_board(board, target)
    print_board(board, page, console or Console())
    return page


def write_board(board: Leaderboard, target: Path) -> Path:
    """Write a leaderboard's files to a folder and return the HTML page."""
    drawn: dict[str, bytes] = {}
    with drawing.style():
        for name, kind in FIGURES.items():
            figure = kind.draw(board)
            if figure is None:
                continue
            drawn[name] = drawing.svg_bytes(figure)
            write_bytes(target / "figures" / f"{name}.svg", drawn[name])
            write_bytes(target / "figures" / f"{name}.png", drawing.png_bytes(figure))
    write_text(target / "leaderboard.md", markdown_text(board))
    write_text(target / "leaderboard.tex", latex_text(board))
    write_text(target / "leaderboard.csv", csv_text(board))
    write_json(target / "leaderboard.json", json_value(board))
    page = target / "leaderboard.html"
    write_text(page, html_text(board, drawn))
    return page
