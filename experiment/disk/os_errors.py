"""Errors of the disk that a library reports in its own way."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

__all__ = ["safetensors_errors"]


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
