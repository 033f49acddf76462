"""``python -m train``: train an experiment, or make the tuples for one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment.console.command import add_json, add_version, prepare_process, print_result, run_command

__all__ = ["command_parser", "main"]


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return _parsers()[0]


def main(arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns:
        The exit code: 1 if a trial failed.

    Raises:
        ProjheadsError: If the configuration, the data or the output cannot be used.
    """
    parser, commands = _parsers()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    if arguments[0] in ("-h", "--help", "--version"):
        parser.parse_args(arguments)
    if arguments[0] in commands:
        name, *rest = arguments
    else:
        name, rest = "CONFIG", list(arguments)
    options = commands[name].parse_intermixed_args(rest)
    # Imported here because it loads torch, which --help does not need.
    from train import commands as actions

    result = print_result(lambda: getattr(actions, options.action)(options), as_json=options.json)
    return int(bool(result and result.get("failed")))


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of the command line and those of its commands."""
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train the projection heads of an experiment, or make its training tuples.",
        epilog="Options of a command: python -m train CONFIG --help, python -m train mine --help.",
    )
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    _add_experiment(commands)
    _add_mine(commands)
    _add_teach(commands)
    return parser, dict(commands.choices)


def _add_experiment(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from experiment.executors.options import add_executor_options

    parser = commands.add_parser(
        "CONFIG",
        prog="python -m train",
        help="path of an experiment's YAML: train every variant with every seed",
        description="Train every variant of an experiment with every seed. Finished trials are not trained again, and "
        "a stopped one resumes.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the experiment's YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="override a value of the file, e.g. train.batch_size=16"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and print the resolved YAML, without training"
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
    parser.set_defaults(action="train_command")


def _add_mine(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "mine",
        help="mine hard negatives with BM25",
        description="Write the training pairs of a collection with hard negatives from BM25, never a document judged "
        "relevant.",
    )
    parser.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG", help="an experiment's YAML file; mines its train.data.source"
    )
    parser.add_argument("--source", help="the collection to mine, instead of CONFIG")
    parser.add_argument("--split", default="train", help="split of the collection given by --source (default: train)")
    _add_files(parser)
    parser.add_argument("--negatives", type=int, default=7, help="negatives per pair (default: 7)")
    parser.add_argument("--from-rank", type=int, default=1, help="first BM25 rank to take negatives from (default: 1)")
    parser.add_argument("--to-rank", type=int, default=100, help="last BM25 rank to take them from (default: 100)")
    parser.set_defaults(action="mine_command")


def _add_teach(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "teach",
        help="add a teacher's scores to tuples",
        description="Copy a file of tuples, adding the scores of a CrossEncoder or a bi-encoder. Rerun an interrupted "
        "command and it resumes.",
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a JSONL file of tuples, e.g. of `python -m train mine`"
    )
    parser.add_argument("--model", required=True, help="the teacher: a folder or a hub name")
    parser.add_argument("--revision", help="commit, branch or tag of a teacher on the hub")
    parser.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the teacher run")
    parser.add_argument("--source", help="the collection of the file's ids (default: the one it was mined from)")
    parser.add_argument("--split", help="split of the collection (default: the one it was mined from, or train)")
    _add_files(parser)
    parser.add_argument(
        "--query-prefix", metavar="TEXT", help="what the teacher reads before each query (default: its own prompt)"
    )
    parser.add_argument(
        "--document-prefix", metavar="TEXT", help="what it reads before each document (default: its own prompt)"
    )
    parser.add_argument(
        "--max-pairs",
        type=int,
        metavar="N",
        help="score and copy only the tuples that training on this file with train.max_pairs=N draws (default: all)",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="texts per batch of the teacher (default: 32)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n> or mps (default: auto)")
    parser.set_defaults(action="teach_command")


def _add_files(parser: argparse.ArgumentParser) -> None:
    from experiment.collections.sources import DEFAULT_CACHE

    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSONL file to write")
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help=f"folder of downloads (default: {DEFAULT_CACHE})"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE if it is not the result of this command")
    parser.add_argument("--dry-run", action="store_true", help="check everything and print what would be done")
    add_json(parser)


if __name__ == "__main__":
    prepare_process()
    sys.exit(run_command(main, sys.argv[1:]))
