"""The host libraries: PyLate and sentence-transformers. Each adapter imports its host; this module imports neither."""

import importlib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from projheads.errors import ProjheadsError, unknown_name

if TYPE_CHECKING:
    from projheads.hosts.base import Host

__all__ = ["HOSTS", "available_hosts", "load_host"]

# Name -> (module of the adapter, what must be installed, its first version that has what the adapter needs).
HOSTS = {
    "pylate": ("projheads.hosts.pylate", "pylate", 1),
    "sentence-transformers": ("projheads.hosts.sentence_transformers", "sentence-transformers", 6),
}


def available_hosts() -> list[str]:
    """List the hosts that are installed here, PyLate first."""
    return [name for name, (_, package, version) in HOSTS.items() if _major_version(package) >= version]


def load_host(name: str = "auto", *, checkpoint: Path | None = None) -> "Host":
    """Import the adapter of a host.

    Args:
        name: ``"pylate"``, ``"sentence-transformers"``, or ``"auto"`` for the first of them that is installed.
        checkpoint: The folder of a checkpoint to be opened: ``"auto"`` then prefers the host that wrote it, as its
            files tell. The others open it too.

    Returns:
        The module with ``create``, ``load``, ``replace_head`` and ``backbone_width``.

    Raises:
        ProjheadsError: If there is no such host or it is not installed.
    """
    if name not in ("auto", *HOSTS):
        raise unknown_name("host", name, ("auto", *HOSTS))
    available = available_hosts()
    if name == "auto" and not available:
        raise ProjheadsError(
            "no host is installed; pip install 'projheads[pylate]' or 'projheads[sentence-transformers]'"
        )
    chosen = name
    if name == "auto":
        writer = _writer(checkpoint) if checkpoint is not None else None
        chosen = writer if writer in available else available[0]
    module, package, version = HOSTS[chosen]
    if chosen not in available:
        raise ProjheadsError(f"host \"{name}\": needs {package} >= {version}; pip install 'projheads[{name}]'")
    host: Any = importlib.import_module(module)
    adapter: Host = host
    return adapter


def _writer(checkpoint: Path) -> str | None:
    from projheads.hosts.layout import written_by  # which imports torch

    return written_by(checkpoint)


def _major_version(package: str) -> int:
    """Return the first number of an installed package's version, 0 where it is not installed."""
    try:
        return int(importlib.metadata.version(package).partition(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 0
