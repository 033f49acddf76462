"""Where the independent parts of an experiment are computed: one after another in this process, or on a Ray cluster."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import torch

from experiment.progress import Advance, Progress
from projheads.errors import ProjheadsError

__all__ = ["Executor", "Item", "LocalExecutor", "Part", "Worker", "add_executor_options", "open_executor"]


class Part(Protocol):
    """What is done at once: a trial to train, a model to evaluate. It can be pickled."""

    @property
    def name(self) -> str:
        """The part as a person reads it."""
        ...


Item = TypeVar("Item", bound=Part)
ItemIn = TypeVar("ItemIn", bound=Part, contravariant=True)


class Worker(Protocol[ItemIn]):
    """Does one part at a time, for instance trains a trial; all that it leaves behind are files."""

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        ...

    def __call__(self, part: ItemIn, /, progress: Progress, advance: Advance) -> str:
        """Do a part.

        Args:
            part: What to do.
            progress: Where to show what happens within the part.
            advance: Tells how much more of the whole is done.

        Returns:
            What to tell of it.

        Raises:
            ProjheadsError: If this part cannot be done; the others may.
        """
        ...

    def recipe(self) -> "Callable[[], Worker[ItemIn]]":
        """Return a function that can be pickled and makes such a worker in another process."""
        ...


class Executor(Protocol):
    """Has parts done."""

    def map(
        self, worker: Worker[Item], parts: Sequence[Item], progress: Progress, advance: Advance
    ) -> Iterator[tuple[Item, str | ProjheadsError]]:
        """Have each part done, and yield it with what to tell of it, or with the reason why it failed."""
        ...


class LocalExecutor:
    """Does the parts in this process, in their order."""

    def map(
        self, worker: Worker[Item], parts: Sequence[Item], progress: Progress, advance: Advance
    ) -> Iterator[tuple[Item, str | ProjheadsError]]:
        """See ``Executor``."""
        for part in parts:
            try:
                outcome: str | ProjheadsError = worker(part, progress, advance)
            except ProjheadsError as error:
                outcome = error
            yield part, outcome


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


def open_executor(options: argparse.Namespace) -> AbstractContextManager[Executor]:
    """Open what the options of ``add_executor_options`` ask for.

    Raises:
        ProjheadsError: If Ray is asked for and not installed, or its cluster is not there.
    """
    if options.executor == "local":
        if options.address is not None:
            raise ProjheadsError("--address is an address of a Ray cluster; add --executor ray, or leave it out")
        return nullcontext(LocalExecutor())
    from experiment.ray_executor import ray_executor

    ray: Any = ray_executor(options.address)
    executor: AbstractContextManager[Executor] = ray
    return executor
