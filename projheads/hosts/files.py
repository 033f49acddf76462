"""What both hosts do around their own loading and saving of files."""

import contextlib
import filecmp
import json
import os
from collections.abc import Iterator
from pathlib import Path

from projheads.hosts.checkpoint import read_modules

__all__ = ["has_projection", "quiet", "share_backbone"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the terminal, where the caller has a display of its own."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def has_projection(folder: Path) -> bool:
    """Tell whether a checkpoint has weights behind its transformer; hosts add a random layer to one that has not."""
    if (folder / "modules.json").is_file():
        return any(
            (folder / module.path / name).is_file()
            for module in read_modules(folder / "modules.json")[1:]
            for name in ("model.safetensors", "pytorch_model.bin")
        )
    try:  # Stanford's ColBERT keeps the projection among the transformer's weights
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
        if not twin.is_file() or twin.samefile(file) or not filecmp.cmp(file, twin, shallow=False):
            continue
        link = file.with_name(f"{file.name}.link")
        with contextlib.suppress(OSError):
            os.link(twin, link)
            link.replace(file)
