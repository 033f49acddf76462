"""``python -m train``: train every variant of an experiment with every seed, or make the tuples for it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment.collections import check_source
from experiment.config import grid_points
from experiment.config.load import dump_config, load_config, override_heads
from experiment.console.command import run_command
from experiment.executors.options import add_executor_options, open_executor
from train.trackers import check_trackers

__all__ = ["main"]

USAGE = """python -m train CONFIG [key=value ...] [--dry-run] [--executor ray]
       python -m train mine (CONFIG | --source SOURCE) --out FILE
       python -m train teach FILE --model MODEL --out FILE"""


def main(arguments: Sequence[str]) -> None:
    """Read the command line and do what it asks for; a configuration is checked as a whole before any work.

    Raises:
        ProjheadsError: If the configuration, the data or the output folder cannot be used.
    """
    if arguments and arguments[0] in ("mine", "teach"):
        from train.commands import main_mine, main_teach

        {"mine": main_mine, "teach": main_teach}[arguments[0]](arguments[1:])
        return
    parser = argparse.ArgumentParser(
        usage=USAGE,
        description="Train every variant of an experiment with every seed. Finished trials are not trained again.",
    )
    parser.add_argument("config", type=Path, help="the experiment's YAML")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example train.batch_size=16")
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the resolved YAML")
    add_executor_options(parser)
    parser.add_argument(
        "--heads", type=Path, action="append", default=[], metavar="FILE", help="a Python file that registers heads"
    )
    options = parser.parse_intermixed_args(arguments)
    config = load_config(options.config, [*override_heads(options.heads), *options.overrides])
    check_trackers(config.train.trackers)
    if options.dry_run:
        print(dump_config(config), end="")
        evaluated = [check_source(dataset.source, cache=config.cache) for dataset in config.eval.datasets]
        for warning in dict.fromkeys([*config.train.data.warnings(config.cache), *filter(None, evaluated)]):
            print(f"warning: {warning}", file=sys.stderr)
        points = len(grid_points(config.sweep, config.train))
        swept = f" x {points} points of the sweep" if config.sweep else ""
        print(
            f"{options.config}: {len(config.heads.variants)} variants{swept} x {len(config.seeds)} seeds "
            f"into {config.output}",
            file=sys.stderr,
        )
        return
    from train.experiment import run_training

    with open_executor(options) as executor:
        run_training(config, executor)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
