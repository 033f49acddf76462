"""Which executor a command uses: this process, or a Ray cluster."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from projheads.errors import ProjheadsError

if TYPE_CHECKING:
    from experiment.executors.protocol import Executor

__all__ = ["add_executor_options", "open_executor"]


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Let a command be told where to compute."""
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="local: one after another in this process; ray: as tasks of a Ray cluster",
    )
    parser.add_argument(
        "--address", help="address of the Ray cluster, for example auto; a cluster of this machine without it"
    )


def open_executor(options: argparse.Namespace) -> "AbstractContextManager[Executor]":
    """Open what the options of ``add_executor_options`` ask for.

    Raises:
        ProjheadsError: If Ray is asked for and not installed, or its cluster is not there.
    """
    if options.executor == "local":
        from experiment.executors.local import LocalExecutor

        if options.address is not None:
            raise ProjheadsError("--address is an address of a Ray cluster; add --executor ray, or leave it out")
        return nullcontext(LocalExecutor())
    from experiment.executors.ray_cluster import ray_executor

    ray: Any = ray_executor(options.address)
    executor: AbstractContextManager[Executor] = ray
    return executor
