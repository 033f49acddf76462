"""Locks between processes.

They are ``flock`` locks, so they end with the process that holds them, however it ends, and they work between
containers that share a file system.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["lock_now", "locked"]


@contextmanager
def locked(file: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file, which is created if needed and never deleted.

    Args:
        file: The lock file, named ``.lock`` or ``.<name>.lock`` by convention.
        wait: Whether to wait while another process holds the lock.

    Yields:
        Whether the lock is held; always true with ``wait``.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def lock_now(path: Path) -> int:
    """Lock an existing file or folder and return the descriptor that holds the lock until it is closed.

    Raises:
        OSError: If the path is gone, another process holds the lock, or the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
