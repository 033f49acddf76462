"""The processes that train a trial together, started by ``torchrun``, or by ``accelerate launch`` on GPUs."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Processes", "is_main_process", "join_processes"]

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other, for instance while the main one computes token states."""


@dataclass(frozen=True)
class Processes:
    """The rank of this process and the number of processes; with one process, every method is a no-op.

    Each process embeds its share of a batch, the documents' embeddings are gathered in all processes, each scores its
    own queries against all documents, and the gradients are summed. The numbers are those of one process on the full
    batch.

    Attributes:
        rank: Number of this process.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes the files and reports progress."""
        return self.rank == 0

    def share(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split a batch.

        Args:
            batch: (B,) the batch, the same in every process.

        Returns:
            This process's part, and the full batch rotated so that this part comes first.
        """
        parts = np.array_split(batch, self.count)
        return parts[self.rank], np.concatenate(parts[self.rank :] + parts[: self.rank])

    def gather(self, rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Gather packed rows (T, d) and counts (n,) of all processes, this one's first, in the order of ``share``."""
        if self.count == 1:
            return rows, counts
        sizes = torch.tensor([len(rows), len(counts)], device=rows.device)
        all_sizes = [torch.empty_like(sizes) for _ in range(self.count)]
        dist.all_gather(all_sizes, sizes)
        parts = self._gather_padded(rows, [int(size[0]) for size in all_sizes])
        part_counts = self._gather_padded(counts.to(rows.device), [int(size[1]) for size in all_sizes])
        rotated = [*range(self.rank, self.count), *range(self.rank)]
        return torch.cat([parts[i] for i in rotated]), torch.cat([part_counts[i] for i in rotated]).cpu()

    def _gather_padded(self, values: Tensor, lengths: list[int]) -> list[Tensor]:
        padded = values.new_zeros(max(lengths), *values.shape[1:])
        padded[: len(values)] = values
        received = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(received, padded)
        return [part[:length] for part, length in zip(received, lengths, strict=True)]

    def own_gradient(self, gradient: Tensor, own: int) -> Tensor:
        """Sum the gradients of all processes' losses with respect to the gathered rows.

        Args:
            gradient: (T_all, d) gradient of this process's loss, in the order of ``gather``.
            own: Number of rows of this process.

        Returns:
            (own, d) the gradient of the full loss with respect to this process's rows.
        """
        if self.count == 1:
            return gradient
        lengths = [torch.empty(1, dtype=torch.long, device=gradient.device) for _ in range(self.count)]
        dist.all_gather(lengths, torch.tensor([own], device=gradient.device))
        # Rotate back to the order that all processes share.
        before = int(sum(lengths[: self.rank], torch.zeros(1, dtype=torch.long, device=gradient.device)))
        shared = torch.roll(gradient, before, 0)
        dist.all_reduce(shared)
        return shared[before : before + own]

    def sum_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            dist.barrier()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block in the main process first; the others then find its work done."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()


def is_main_process() -> bool:
    """Return whether this process reports to the user, also before it joins the others and after it leaves them."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join_processes(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the other processes that the launcher started.

    Args:
        device: The configuration's device.

    Yields:
        The processes, and the device of this process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(), device
        return
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    try:
        yield Processes(state.process_index, state.num_processes), str(state.device)
    finally:
        state.destroy_process_group()
