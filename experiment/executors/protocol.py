"""What an executor is: it has the independent parts of an experiment done, wherever it likes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch

from experiment.console.progress import Advance, Progress
from projheads.errors import ProjheadsError

__all__ = ["Executor", "Item", "Part", "Worker"]


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
