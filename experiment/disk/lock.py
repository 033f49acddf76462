"""Locks between processes.

They are ``flock`` locks, so they end with the process that holds them, however it ends, and they work between
containers that share a file system.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

__all__ = ["is_file_at", "lock_now", "locked", "open_in"]

ATTEMPTS = 100
"""How often a folder that is deleted at once is created again."""

Opened = TypeVar("Opened")


@contextmanager
def locked(file: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file, which is created if needed.

    It stays there; if somebody deletes it while this process waits, the process starts over with a new one.

    Args:
        file: The lock file, named ``.lock`` or ``.<name>.lock`` by convention.
        wait: Whether to wait while another process holds the lock.

    Yields:
        Whether the lock is held; always true with ``wait``.
    """
    while True:
        with open_in(file.parent, lambda: file.open("wb")) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if is_file_at(lock, file):
                yield True
                return


def open_in(folder: Path, open_file: Callable[[], Opened]) -> Opened:
    """Open a file in a folder, which is created if needed, and again if it is deleted in between."""
    for _ in range(ATTEMPTS):
        # pathlib reports a folder that is deleted while it looks as one that exists.
        with suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            return open_file()
    folder.mkdir(parents=True, exist_ok=True)
    return open_file()


def is_file_at(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


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
