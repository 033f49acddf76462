"""Turns between processes: who holds a lock works, the others wait or do something else meanwhile.

The locks are those of ``flock``, which end with the process that holds them, however it ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked", "try_locked"]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that is to be made; wait while another process holds it.

    The lock is a file beside ``path``, called ``.<name>.lock``, and stays there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def try_locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a folder itself, which is made if it is not there; nothing is left in it.

    Args:
        folder: The folder.
        wait: Whether to wait while another process holds it.

    Returns:
        Whether the lock is held; always true with ``wait``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(opened)
