"""The commands ``python -m eval report``, ``plan`` and ``compare``; ``eval/__main__.py`` hands over to them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval.report.write import print_leaderboard, write_report

__all__ = ["main_report"]


def main_report(arguments: Sequence[str]) -> None:
    """Write the leaderboard of an experiment anew from its result files, and print it.

    Args:
        arguments: What stands behind ``python -m eval report``.

    Raises:
        ProjheadsError: If there is nothing to report.
    """
    parser = argparse.ArgumentParser(
        prog="python -m eval report",
        description="Write and print the leaderboard of an experiment from its result files.",
    )
    parser.add_argument("folder", type=Path, help="the experiment's folder, outputs/<experiment>")
    folder = parser.parse_args(arguments).folder
    write_report(folder)
    print_leaderboard(folder)
