"""Saving a model whole or not at all."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from experiment.folder import write_folder
from projheads.hosts.base import HostModel

__all__ = ["disk_errors", "save_model"]


def save_model(model: HostModel, path: Path, *, backbone_from: Path | None = None) -> None:
    """Write a model's folder.

    Args:
        model: The model.
        path: The folder; an older one is replaced.
        backbone_from: A saved model with the same backbone, whose weight file is shared.

    Raises:
        OSError: If the disk is full or cannot be written; nothing is left behind.
    """
    with disk_errors(path), write_folder(path) as temporary:
        model.save(temporary, backbone_from=backbone_from)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise what safetensors cannot write as OSError: it tells a full disk in its own error, with the system's number.

    Raises:
        OSError: In the place of a ``SafetensorError`` that comes from the disk.
    """
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
