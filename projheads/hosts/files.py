"""The files of a host's checkpoint around those of the head."""

import contextlib
import json
import os
from pathlib import Path

from projheads.hosts.checkpoint import read_modules

__all__ = ["has_projection", "is_stanfords", "share_backbone"]

_CHUNK_BYTES = 2**20


def has_projection(folder: Path) -> bool:
    """Tell whether a checkpoint has weights behind its transformer; hosts add a random layer to one that has not."""
    if (folder / "modules.json").is_file():
        return any(
            (folder / module.path / name).is_file()
            for module in read_modules(folder / "modules.json")[1:]
            for name in ("model.safetensors", "pytorch_model.bin")
        )
    return is_stanfords(folder)


def is_stanfords(folder: Path) -> bool:
    """Tell whether a checkpoint is of Stanford's ColBERT: its projection lies among the transformer's weights."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return "HF_ColBERT" in (config.get("architectures") or [])
    except (OSError, ValueError, AttributeError):
        return False


def share_backbone(saved: Path, earlier: Path) -> None:
    """Replace the weight files of a save by hard links to those of an earlier one where the bytes are the same.

    Where the file system has no hard links, both keep their own.
    """
    for file in saved.glob("*.safetensors"):
        twin = earlier / file.name
        if not twin.is_file() or twin.samefile(file) or not _same_bytes(file, twin):
            continue
        link = file.with_name(f"{file.name}.link")
        with contextlib.suppress(OSError):
            os.link(twin, link)
            link.replace(file)


def _same_bytes(first: Path, second: Path) -> bool:
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as a, second.open("rb") as b:
        while chunk := a.read(_CHUNK_BYTES):
            if chunk != b.read(_CHUNK_BYTES):
                return False
    return True
