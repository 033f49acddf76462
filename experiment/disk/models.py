"""Saving a model whole or not at all, and the content hashes of weights: what a result was computed from."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from experiment.disk.files import sha256_file, sha256_json, write_folder
from projheads.hosts.base import HostModel

__all__ = ["backbone_fingerprint", "disk_errors", "save_model", "weights_hash"]


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


def backbone_fingerprint(model: HostModel) -> str:
    """Hash the weights in front of the head, in their order."""
    digest = hashlib.sha256()
    for parameter in model.backbone_parameters():
        digest.update(f"{parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_hash(model_folder: Path) -> str:
    """Hash a saved model: every file of its folder but the human-readable model card."""
    files = sorted(file for file in model_folder.rglob("*") if file.is_file() and file.suffix != ".md")
    return sha256_json({file.relative_to(model_folder).as_posix(): sha256_file(file) for file in files})


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
