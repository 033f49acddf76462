"""Work spread over CPU threads that never wait for one another.

A small matrix product that is split over threads ends when the last thread does; on a machine that others use too, it
waits for a core most of the time. Whole items to each thread, computed by it alone, need no such waiting.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["over_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def over_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function to each item, on as many threads as torch has; torch and BLAS use one thread for each item.

    Returns:
        The results in the order of the items. The first error that a call raises is raised here, and items that have
        not begun are left out; so also after Ctrl-C.
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
