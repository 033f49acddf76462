"""Command-line options that select the executor: this process, several, or a Ray cluster."""

import argparse
import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from projheads.errors import ProjheadsError

if TYPE_CHECKING:
    from experiment.executors.protocol import Executor

__all__ = ["add_executor_options", "open_executor"]

MOST = 256
"""Most workers on a machine."""

MEMORY = 2 * 2**30
"""Bytes of the machine's memory that ``--workers auto`` allows for each; a small frozen backbone needs about half."""


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select where a command computes."""
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="local: on this machine (default); ray: as tasks on a Ray cluster",
    )
    parser.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="train or evaluate N models at a time on this machine, each in a process with its share of the CPU "
        "threads; auto: one for each thread, which is fastest for a frozen backbone on a CPU (default: 1)",
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
        count = options.workers or _one_each()
        if count > 1:
            from experiment.executors.pool import pool_executor

            return pool_executor(count)
        return nullcontext(LocalExecutor())
    if options.workers != 1:
        raise ProjheadsError("--workers is for this machine; the Ray cluster decides how many tasks run at a time")
    from experiment.executors.ray_cluster import ray_executor

    ray: Any = ray_executor(options.address)
    executor: AbstractContextManager[Executor] = ray
    return executor


def _count(text: str) -> int:
    """Read a number of workers; 0 means auto."""
    if text == "auto":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number from 1 to {MOST}")
    return int(text)


def _one_each() -> int:
    """Return the number of CPU threads, or fewer if the machine's memory does not suffice for as many workers."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(torch.get_num_threads(), MOST, memory // MEMORY))
