"""``python -m answer``: train and evaluate an experiment until its question is answered, then report."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment.console.command import add_json, add_version, prepare_process, print_result, run_command
from experiment.executors.options import add_executor_options

__all__ = ["command_parser", "main"]


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m answer",
        description="Train and evaluate an experiment, and write its leaderboard. With a `question`, seeds are added "
        "in rounds until each variant is decided. Finished work is not repeated, and a stopped command resumes.",
    )
    add_version(parser)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the experiment's YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="override a value of the file, e.g. question.resolution=0.5"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and print the resolved YAML and what would be done"
    )
    add_executor_options(parser)
    add_json(parser)
    parser.add_argument(
        "--heads",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file that registers heads; may be repeated",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns:
        The exit code: 1 if a trial failed.

    Raises:
        ProjheadsError: If the configuration, the data or the output cannot be used.
    """
    if not arguments:
        command_parser().print_help(sys.stderr)
        return 2
    options = command_parser().parse_intermixed_args(arguments)
    # Imported here because it loads torch, which --help does not need.
    from answer.driver import answer_command

    result = print_result(lambda: answer_command(options), as_json=options.json)
    return int(bool(result.get("failed")))


if __name__ == "__main__":
    prepare_process()
    sys.exit(run_command(main, sys.argv[1:]))
