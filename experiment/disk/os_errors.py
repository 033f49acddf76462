"""Errors of the disk, each in one line that says where it happened and what to do."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

__all__ = ["describe_os_error", "is_disk_full", "safetensors_errors"]


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def describe_os_error(error: OSError) -> str:
    """Describe an error of the operating system in one line."""
    where = "".join(f"{_printable(name)}: " for name in (error.filename, error.filename2) if name is not None)
    what = str(error.strerror or error).strip().splitlines()[0]
    if is_disk_full(error):
        return f"{where}{what}; free some space and rerun the same command: it keeps what is finished and resumes"
    return f"{where}{what}; finished work is kept"


def _printable(name: object) -> str:
    text = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    return text if text.isprintable() else ascii(text)


@contextmanager
def safetensors_errors(path: Path) -> Iterator[None]:
    """Turn the ``SafetensorError`` of a failed write to ``path`` into the ``OSError`` that caused it.

    Raises:
        OSError: If safetensors could not write.
    """
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
