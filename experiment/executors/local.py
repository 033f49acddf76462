"""Runs the parts of an experiment one after the other in this process."""

from collections.abc import Iterator, Sequence

from experiment.console.progress import Advance, Progress
from experiment.executors.protocol import Item, Worker
from projheads.errors import ProjheadsError

__all__ = ["LocalExecutor"]


class LocalExecutor:
    """Runs the parts in this process, in order."""

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
