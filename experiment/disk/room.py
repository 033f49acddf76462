"""How much of a disk a cache of token vectors may take."""

import shutil
from pathlib import Path

__all__ = ["bytes_text", "free_bytes", "largest_store"]

LARGEST_STORE = 50 * 10**9
"""Bytes that one set of texts may take unless the configuration says otherwise."""

SHARE_OF_FREE = 0.5
"""Share of the free disk that it may take."""


def largest_store(free: float) -> float:
    """Return the bytes that may be stored on a disk with so many free bytes."""
    return min(LARGEST_STORE, SHARE_OF_FREE * free)


def free_bytes(folder: Path) -> float:
    """Return the free bytes of the disk that holds a folder, which need not exist."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return float(shutil.disk_usage(there).free)


def bytes_text(value: float) -> str:
    """Write a size in decimal units: ``1.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
