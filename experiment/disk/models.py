"""Saving models atomically, and content hashes of their weights."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from experiment.disk.files import sha256_file, sha256_json, sha256_parts, write_folder
from experiment.disk.os_errors import safetensors_errors
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel
from projheads.hosts.head_files import read_modules
from projheads.hosts.model_folder import MODULES_FILE, projections

__all__ = ["backbone_fingerprint", "check_intact", "is_intact", "save_model", "saved_backbone_hash", "weights_hash"]

SETTLED_NS = 2 * 10**9
"""A younger modification time may be too coarse to distinguish two states of a file, so its hash is not kept."""

_HASHES: dict[tuple[int, ...], str] = {}


def save_model(
    model: HostModel,
    path: Path,
    *,
    backbone_from: Path | None = None,
    finish: Sequence[Callable[[Path], None]] = (),
) -> None:
    """Write a model folder.

    Args:
        model: The model.
        path: The folder; an existing one is replaced.
        backbone_from: A saved model with the same backbone, whose weight file is shared.
        finish: Called one after the other with the folder, which still has a temporary name.

    Raises:
        OSError: If the disk is full or cannot be written; nothing is left behind.
    """
    with safetensors_errors(path), write_folder(path) as temporary:
        model.save(temporary, backbone_from=backbone_from)
        for step in finish:
            step(temporary)


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
    return sha256_json({file.relative_to(model_folder).as_posix(): _hash_file(file) for file in _files(model_folder)})


def saved_backbone_hash(model_folder: Path) -> str:
    """Hash a saved model without its head: models with the same hash share a backbone and read texts the same way.

    Heads may be one module or several, so the modules after them count by their order and not by their numbers.

    Raises:
        ProjheadsError: If the folder has no projection head.
    """
    heads = projections(model_folder)
    if not heads:  # Stanford's layout, which keeps the head among the backbone's weights
        return weights_hash(model_folder)
    rest = [entry for entry in read_modules(model_folder / MODULES_FILE) if entry not in heads]
    folders = {entry.path: f"module {number}" for number, entry in enumerate(rest) if entry.path}
    left_out = {model_folder / entry.path for entry in heads} | {model_folder / MODULES_FILE}
    hashes = {}
    for file in _files(model_folder):
        if left_out.isdisjoint([file, *file.parents]):
            first, *inside = file.relative_to(model_folder).parts
            hashes["/".join([folders.get(first, first), *inside])] = _hash_file(file)
    return sha256_json([[entry.type for entry in rest], hashes])


def is_intact(model_folder: Path, saved: str | None) -> bool:
    """Return whether a model's folder holds exactly what was saved, by its ``weights_hash`` of then."""
    return weights_hash(model_folder) == saved


def check_intact(model_folder: Path, saved: str, experiment_yaml: Path) -> None:
    """Check that a model of an experiment is what was saved.

    Raises:
        ProjheadsError: If it is not; ``experiment_yaml`` is the file to train again with.
    """
    if not is_intact(model_folder, saved):
        raise ProjheadsError(
            f"{model_folder}: damaged (its files are not those that were saved); run python -m train "
            f"{experiment_yaml}, which makes it again"
        )


def _files(model_folder: Path) -> list[Path]:
    """List a model's files except its cards."""
    return sorted(file for file in model_folder.rglob("*") if file.is_file() and file.suffix != ".md")


def _hash_file(file: Path) -> str:
    """Hash a file once per process: models of one experiment share their weight file by hard links."""
    about = file.stat()
    key = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
    if key in _HASHES:
        return _HASHES[key]
    found = sha256_file(file)
    if time.time_ns() - about.st_mtime_ns > SETTLED_NS:
        _HASHES[key] = found
    return found
