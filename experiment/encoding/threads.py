"""Work spread over CPU threads that never wait for each other.

A small matrix product that is split over threads ends when the last thread does; on a shared machine, it mostly waits
for a core. Giving each thread complete items avoids that.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["over_threads", "threads_on"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads_on(device: torch.device) -> int:
    """Return how many threads encode texts on a device."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def over_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function to each item on as many threads as torch uses; within an item, torch uses one thread.

    Returns:
        The results in the order of the items. After an error or Ctrl-C, items that have not started are skipped, and
        the first error is raised.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [function(item) for item in items]
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
