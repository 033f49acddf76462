"""``python -m eval``: evaluate an experiment or any checkpoint, write a leaderboard, or score a run file."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment.console.command import prepare_process, run_command

__all__ = ["main"]

USAGE = """python -m eval CONFIG-or-OUTPUT-FOLDER [key=value ...] [--heads FILE] [--dry-run] [--executor ray]
       python -m eval --model PATH-or-HUB-NAME [--model ...] --datasets DATASET ... [--output FOLDER] [key=value ...]
       python -m eval report OUTPUT-FOLDER
       python -m eval plan OUTPUT-FOLDER
       python -m eval compare OUTPUT-FOLDER OUTPUT-FOLDER ...
       python -m eval score RUN QRELS [--measures MEASURE ...]"""

SETTING = re.compile(r"(eval\.\w+|cache|device|threads|trust_remote_code)=")
"""How a setting begins that stands behind a list of data sets or measures."""


def main(arguments: Sequence[str]) -> None:
    """Read the command line and do what it asks for.

    Raises:
        ProjheadsError: If the configuration, a file or the data cannot be used.
    """
    command, *rest = arguments or [""]
    if command in ("report", "plan", "compare"):
        from eval.report.cli import main_compare, main_plan, main_report

        {"report": main_report, "plan": main_plan, "compare": main_compare}[command](rest)
    elif command == "score":
        _score(rest)
    elif any(argument.split("=")[0] == "--model" for argument in arguments):
        _evaluate_checkpoints(arguments)
    else:
        _evaluate(arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    from experiment.executors.options import add_executor_options, open_executor

    parser = argparse.ArgumentParser(
        usage=USAGE,
        description="Evaluate the finished trials and the reference rows of an experiment, and write its leaderboard. "
        "Finished evaluations are not done again.",
    )
    parser.add_argument("experiment", type=Path, help="the experiment's YAML, or its output folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example eval.index=exact")
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")
    add_executor_options(parser)
    parser.add_argument(
        "--heads", type=Path, action="append", default=[], metavar="FILE", help="a Python file that registers heads"
    )
    options = parser.parse_intermixed_args(arguments)

    from eval.dry_run import print_plan
    from eval.evaluate import evaluate_experiment
    from eval.report.cli import main_report
    from experiment.config.load import load_config, override_heads, read_resolved
    from experiment.console.progress import Progress

    path, overrides = options.experiment, [*override_heads(options.heads), *options.overrides]
    if path.is_dir():
        read_resolved(path, options.heads)
        # The folder may have been moved since it was written.
        path, overrides = path / "experiment.yaml", [f"output={json.dumps(str(path))}", *overrides]
    config = load_config(path, overrides)
    if options.dry_run:
        print_plan(config)
        return
    with open_executor(options) as executor, Progress() as progress:
        evaluate_experiment(config, progress, executor)
    main_report([str(config.output)])


def _evaluate_checkpoints(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval",
        description="Evaluate multi-vector checkpoints of PyLate or sentence-transformers, each as it was made to be "
        "used, and compare them query by query. Finished evaluations are not done again.",
    )
    parser.add_argument("--model", action="append", required=True, help="a folder or a hub name; may stand many times")
    parser.add_argument(
        "--datasets", nargs="+", required=True, help="as in a configuration; suite:beir, suite:nanobeir"
    )
    parser.add_argument("--measures", nargs="+", help="ir-measures expressions; the first is compared")
    parser.add_argument("--index", help="auto, exact or a FAISS factory string")
    parser.add_argument("--split", help="of all data sets; that by which models are compared if not given")
    parser.add_argument("--host", help="the host that opens the checkpoints; the one that wrote each if not given")
    parser.add_argument("--output", help="folder of the results; outputs/checkpoints if not given")
    parser.add_argument(
        "--heads", type=Path, action="append", default=[], metavar="FILE", help="a Python file that registers heads"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example eval.depth=1000 or device=cpu")
    options = parser.parse_intermixed_args(arguments)

    from eval.given_models import evaluate_checkpoints
    from eval.report.cli import main_report
    from eval.report.model_table import print_checkpoints
    from eval.report.results import InconclusiveError
    from experiment.config.load import checkpoints_config
    from experiment.console.progress import Progress
    from projheads.registry import import_head_file

    for file in options.heads:
        import_head_file(file)
    # Words behind --datasets or --measures that are no data set and no measure are settings.
    lists = {name: getattr(options, name) or [] for name in ("datasets", "measures")}
    overrides = [*options.overrides, *(word for words in lists.values() for word in words if SETTING.match(word))]
    lists = {name: [word for word in words if not SETTING.match(word)] for name, words in lists.items()}
    split = {"split": options.split} if options.split else {}
    datasets = [{"source": source, **split} if split else source for source in lists["datasets"]]
    given = {"measures": lists["measures"] or None, "index": options.index}
    settings = {"datasets": datasets, "references": [], **{key: value for key, value in given.items() if value}}
    values = {"models": options.model, "output": options.output, "host": options.host, "eval": settings}
    config = checkpoints_config({key: value for key, value in values.items() if value}, overrides)
    with Progress() as progress:
        evaluate_checkpoints(config, progress)
    try:
        print_checkpoints(config.output)
        if len(config.models) > 1:
            main_report([str(config.output)])
    except InconclusiveError as error:
        print(f"no leaderboard: {error}")


def _score(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m eval score", description="Measure a run file of anybody's.")
    parser.add_argument("run", type=Path, help="a TREC run file, six columns")
    parser.add_argument("qrels", type=Path, help="judgements, TREC's four columns or BEIR's three")
    parser.add_argument("--measures", nargs="+", default=["nDCG@10", "R@100", "RR@10"], help="ir-measures expressions")
    options = parser.parse_args(arguments)

    from eval.score import score_run

    for line in score_run(options.run, options.qrels, options.measures):
        print(line)


if __name__ == "__main__":
    prepare_process()
    sys.exit(run_command(main, sys.argv[1:]))
