"""Content hashes of weights: what a result was computed from."""

import hashlib
from pathlib import Path

import torch

from experiment.folder import sha256_file, sha256_json
from projheads.hosts.base import HostModel

__all__ = ["backbone_fingerprint", "weights_hash"]


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
