"""The commands ``python -m eval report``, ``plan`` and ``compare``; ``eval/__main__.py`` hands over to them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval.report.plan import print_plan
from eval.report.results import InconclusiveError
from eval.report.write import compare, print_leaderboard, write_report

__all__ = ["main_compare", "main_plan", "main_report"]


def main_report(arguments: Sequence[str]) -> None:
    """Write the leaderboard of an experiment anew from its result files, and print it.

    Args:
        arguments: What stands behind ``python -m eval report``.

    Raises:
        ProjheadsError: If there is nothing to report.
    """
    folder = _folder("report", "Write and print the leaderboard of an experiment from its result files.", arguments)
    try:
        write_report(folder)
    except InconclusiveError as error:
        print(f"no leaderboard: {error}")
        return
    print_leaderboard(folder)


def main_plan(arguments: Sequence[str]) -> None:
    """Print how many seeds and queries would show a difference.

    Args:
        arguments: What stands behind ``python -m eval plan``.

    Raises:
        ProjheadsError: If the trials say nothing about the scatter over seeds.
    """
    print_plan(_folder("plan", "How many seeds and queries would show a difference, from trials at hand.", arguments))


def main_compare(arguments: Sequence[str]) -> None:
    """Write and print one leaderboard of several experiments.

    Args:
        arguments: What stands behind ``python -m eval compare``.

    Raises:
        ProjheadsError: If the experiments cannot be paired.
    """
    parser = argparse.ArgumentParser(
        prog="python -m eval compare",
        description="One leaderboard of two or more experiments, or folders of checkpoints that eval --model wrote; "
        "the first one's baseline is the baseline of all.",
    )
    parser.add_argument("folders", type=Path, nargs="+", help="outputs/<experiment>, outputs/checkpoints, ...")
    parser.add_argument("--output", type=Path, help="folder of the leaderboard; outputs/compare/<names> if not given")
    options = parser.parse_args(arguments)
    names = "-".join(folder.resolve().name for folder in options.folders)
    compare(options.folders, options.output or Path("outputs/compare") / names)


def _folder(command: str, description: str, arguments: Sequence[str]) -> Path:
    parser = argparse.ArgumentParser(prog=f"python -m eval {command}", description=description)
    parser.add_argument("folder", type=Path, help="the experiment's folder, outputs/<experiment>")
    folder: Path = parser.parse_args(arguments).folder
    return folder
