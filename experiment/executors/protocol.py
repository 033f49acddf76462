"""The interface of executors, which run the independent parts of an experiment."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch

from experiment.console.progress import Advance, Progress
from projheads.errors import ProjheadsError

__all__ = ["Executor", "Item", "Part", "Worker"]


class Part(Protocol):
    """A unit of work: a trial to train, a model to evaluate. It can be pickled."""

    @property
    def name(self) -> str:
        """Name of the part, for progress and errors."""
        ...


Item = TypeVar("Item", bound=Part)
ItemIn = TypeVar("ItemIn", bound=Part, contravariant=True)


class Worker(Protocol[ItemIn]):
    """Runs one part at a time, for instance trains a trial; its results are files."""

    @property
    def device(self) -> torch.device:
        """The device it computes on."""
        ...

    def __call__(self, part: ItemIn, /, progress: Progress, advance: Advance) -> str:
        """Run a part.

        Args:
            part: The part to run.
            progress: Reports progress within the part.
            advance: Reports progress of the experiment.

        Returns:
            A one-line summary of the outcome.

        Raises:
            ProjheadsError: If this part failed; the others still run.
        """
        ...

    def recipe(self) -> "Callable[[], Worker[ItemIn]]":
        """Return a picklable function that makes the same worker in another process."""
        ...


class Executor(Protocol):
    """Runs parts."""

    def map(
        self, worker: Worker[Item], parts: Sequence[Item], progress: Progress, advance: Advance
    ) -> Iterator[tuple[Item, str | ProjheadsError]]:
        """Run each part and yield it with the summary of its outcome, or with the error if it failed."""
        ...
