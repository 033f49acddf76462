"""Saving models atomically, and content hashes of their weights."""

from pathlib import Path

import torch

from experiment.disk.files import sha256_file, sha256_json, sha256_parts, write_folder
from experiment.disk.os_errors import safetensors_errors
from projheads.hosts.base import HostModel

__all__ = ["backbone_fingerprint", "save_model", "weights_hash"]


def save_model(model: HostModel, path: Path, *, backbone_from: Path | None = None) -> None:
    """Write a model folder.

    Args:
        model: The model.
        path: The folder; an existing one is replaced.
        backbone_from: A saved model with the same backbone, whose weight file is shared.

    Raises:
        OSError: If the disk is full or cannot be written; nothing is left behind.
    """
    with safetensors_errors(path), write_folder(path) as temporary:
        model.save(temporary, backbone_from=backbone_from)


def backbone_fingerprint(model: HostModel) -> str:
    """Hash the backbone's weights, in order."""
    return sha256_parts(
        part
        for parameter in model.backbone_parameters()
        for part in (
            f"{parameter.dtype} {tuple(parameter.shape)}".encode(),
            parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy().data,
        )
    )


def weights_hash(model_folder: Path) -> str:
    """Hash a saved model: every file in its folder except model cards."""
    files = sorted(file for file in model_folder.rglob("*") if file.is_file() and file.suffix != ".md")
    return sha256_json({file.relative_to(model_folder).as_posix(): sha256_file(file) for file in files})
