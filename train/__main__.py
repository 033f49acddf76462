"""``python -m train CONFIG [key=value ...] [--dry-run]``: train every variant with every seed."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment.cli import run_command
from experiment.collections import check_source
from experiment.load import dump_config, load_config, override_heads

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Read the command line, check the whole configuration, and train.

    Raises:
        ProjheadsError: If the configuration, the data or the output folder cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train every variant of an experiment with every seed. Finished trials are not trained again.",
    )
    parser.add_argument("config", type=Path, help="the experiment's YAML")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example train.batch_size=16")
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the resolved YAML")
    parser.add_argument(
        "--heads", type=Path, action="append", default=[], metavar="FILE", help="a Python file that registers heads"
    )
    options = parser.parse_intermixed_args(arguments)
    config = load_config(options.config, [*override_heads(options.heads), *options.overrides])
    if options.dry_run:
        print(dump_config(config), end="")
        for dataset in (config.train.data, *config.eval.datasets):
            warning = check_source(dataset.source, cache=config.cache)
            if warning:
                print(f"warning: {warning}", file=sys.stderr)
        print(
            f"{options.config}: {len(config.heads.variants)} variants x {len(config.seeds)} seeds into {config.output}",
            file=sys.stderr,
        )
        return
    from train.run import run_training

    run_training(config)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
