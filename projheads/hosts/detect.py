"""Which host wrote a multi-vector checkpoint, told from its files alone; imports neither host."""

import json
from pathlib import Path
from typing import Any

from projheads.errors import ProjheadsError
from projheads.hosts import available_hosts
from projheads.hosts.checkpoint import read_modules
from projheads.hosts.layout import MODULES_FILE, written_by

__all__ = ["detect_host"]


def detect_host(folder: Path) -> str:
    """Return the host that opens a multi-vector checkpoint: the one that wrote it, as far as that is installed.

    A checkpoint of PyLate, or of Stanford's ColBERT, is opened by sentence-transformers where PyLate is not installed.

    Args:
        folder: The checkpoint.

    Raises:
        ProjheadsError: If it is a model with one vector a text, a bare backbone, or no model at all.
    """
    host = _writer(folder)
    available = available_hosts()
    return "sentence-transformers" if host == "pylate" and available == ["sentence-transformers"] else host


def _writer(folder: Path) -> str:
    config = _read_object(folder / "config.json")
    if not (folder / MODULES_FILE).is_file():
        if "HF_ColBERT" in (config.get("architectures") or []):
            return "pylate"
        what = "a bare backbone without a projection" if config else "no model: it has neither modules.json nor config"
        raise ProjheadsError(f'checkpoint "{folder}": is {what}; give a multi-vector checkpoint')
    if host := written_by(folder):
        return host
    types = [module.type for module in read_modules(folder / MODULES_FILE)]
    names = [kind.rpartition(".")[2] for kind in types]
    if "Pooling" in names:
        raise ProjheadsError(
            f'checkpoint "{folder}": is a bi-encoder, with one vector a text ({", ".join(names)}); '
            "give a multi-vector checkpoint"
        )
    raise ProjheadsError(
        f'checkpoint "{folder}": is not known to be a multi-vector checkpoint ({", ".join(names)}); '
        "name the host that opens it, --host pylate or --host sentence-transformers"
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
