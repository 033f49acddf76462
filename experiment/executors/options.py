"""Command-line options that select the executor: this process or a Ray cluster."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from projheads.errors import ProjheadsError

if TYPE_CHECKING:
    from experiment.executors.protocol import Executor

__all__ = ["add_executor_options", "open_executor"]


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select where a command computes."""
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="local: one after the other in this process (default); ray: as tasks on a Ray cluster",
    )
    parser.add_argument(
        "--address", help="address of the Ray cluster, such as auto (default: start a cluster on this machine)"
    )


def open_executor(options: argparse.Namespace) -> "AbstractContextManager[Executor]":
    """Open the executor that the options of ``add_executor_options`` select.

    Raises:
        ProjheadsError: If Ray is selected but not installed, or its cluster cannot be reached.
    """
    if options.executor == "local":
        from experiment.executors.local import LocalExecutor

        if options.address is not None:
            raise ProjheadsError("--address is the address of a Ray cluster; add --executor ray, or drop it")
        return nullcontext(LocalExecutor())
    from experiment.executors.ray_cluster import ray_executor

    ray: Any = ray_executor(options.address)
    executor: AbstractContextManager[Executor] = ray
    return executor
