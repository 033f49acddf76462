"""The host libraries, PyLate and sentence-transformers: which are installed, and which opens a model folder.

Each adapter imports its host; this module imports neither.
"""

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from projheads.errors import ProjheadsError, unknown_name

if TYPE_CHECKING:
    from projheads.hosts.base import Host, StrPath

__all__ = ["HOSTS", "available_hosts", "detect_host", "load_host"]

# Name -> (package, its first major version that has what the adapter needs).
HOSTS = {"pylate": ("pylate", 1), "sentence-transformers": ("sentence-transformers", 6)}


def available_hosts() -> list[str]:
    """List the installed hosts, PyLate first."""
    return [name for name, (package, version) in HOSTS.items() if _major_version(package) >= version]


def load_host(name: str = "auto", *, model_folder: "StrPath | None" = None) -> "Host":
    """Import the adapter of a host.

    Args:
        name: ``"pylate"``, ``"sentence-transformers"``, or ``"auto"`` for the first installed one.
        model_folder: A model folder to open: ``"auto"`` then prefers the host that wrote it.

    Returns:
        The adapter, a module.

    Raises:
        ProjheadsError: If the host is unknown or not installed.
    """
    if name not in ("auto", *HOSTS):
        raise unknown_name("host", name, ("auto", *HOSTS))
    available = available_hosts()
    if name == "auto":
        if not available:
            raise ProjheadsError(
                "no host is installed; pip install 'projheads[pylate]' or 'projheads[sentence-transformers]'"
            )
        writer = _written_by(Path(model_folder)) if model_folder is not None else None
        name = writer if writer in available else available[0]
    if name not in available:
        package, version = HOSTS[name]
        raise ProjheadsError(f"host \"{name}\": needs {package} >= {version}; pip install 'projheads[{name}]'")
    return _adapter(name)


def detect_host(folder: "StrPath") -> str:
    """Return the host that opens a multi-vector model: the one that wrote it if it is installed, else an installed one.

    Raises:
        ProjheadsError: If the folder holds a bi-encoder, a bare backbone, or no model at all.
    """
    from projheads.hosts.model_folder import check_multi_vector

    folder = Path(folder)
    check_multi_vector(folder)
    writer, available = _written_by(folder), available_hosts()
    preferred = writer if writer in HOSTS else "pylate"  # Stanford's layout opens in both
    return available[0] if available and preferred not in available else preferred


def _written_by(folder: Path) -> str | None:
    from projheads.hosts.model_folder import written_by  # which imports torch

    return written_by(folder)


def _adapter(name: str) -> "Host":
    if name == "pylate":
        from projheads.hosts import pylate

        return pylate
    from projheads.hosts import sentence_transformers

    return sentence_transformers


def _major_version(package: str) -> int:
    """Return the first number of an installed package's version, 0 if it is not installed."""
    try:
        return int(importlib.metadata.version(package).partition(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 0
