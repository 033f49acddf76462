"""``python -m eval``: evaluate an experiment, write its leaderboard, or score a run file."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment.cli import run_command

__all__ = ["main"]

USAGE = """python -m eval CONFIG-or-OUTPUT-FOLDER [key=value ...] [--heads FILE] [--dry-run]
       python -m eval report OUTPUT-FOLDER
       python -m eval plan OUTPUT-FOLDER
       python -m eval compare OUTPUT-FOLDER OUTPUT-FOLDER ...
       python -m eval score RUN QRELS [--measures MEASURE ...]"""


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
    else:
        _evaluate(arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        usage=USAGE,
        description="Evaluate the finished trials and the reference rows of an experiment, and write its leaderboard. "
        "Finished evaluations are not done again.",
    )
    parser.add_argument("experiment", type=Path, help="the experiment's YAML, or its output folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example eval.index=exact")
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")
    parser.add_argument(
        "--heads", type=Path, action="append", default=[], metavar="FILE", help="a Python file that registers heads"
    )
    options = parser.parse_intermixed_args(arguments)

    from eval.evaluate import evaluate_experiment
    from eval.plan import print_plan
    from eval.report.cli import main_report
    from experiment.load import load_config, override_heads, read_resolved
    from experiment.progress import Progress

    path, overrides = options.experiment, [*override_heads(options.heads), *options.overrides]
    if path.is_dir():
        read_resolved(path, options.heads)
        # The folder may have been moved since it was written.
        path, overrides = path / "experiment.yaml", [f"output={json.dumps(str(path))}", *overrides]
    config = load_config(path, overrides)
    if options.dry_run:
        print_plan(config)
        return
    with Progress() as progress:
        evaluate_experiment(config, progress)
    main_report([str(config.output)])


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
    sys.exit(run_command(main, sys.argv[1:]))
