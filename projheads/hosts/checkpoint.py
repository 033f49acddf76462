"""A head on disk, the same under every host: config.json with its name and options, model.safetensors with its weights.

Neither file holds the path of a Python file or class, so a head file may be renamed or moved without breaking a
checkpoint, and neither can run code when it is read.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.spec import HeadSpec

__all__ = [
    "CONFIG_FILE",
    "SCHEMA_VERSION",
    "WEIGHTS_FILE",
    "ModuleEntry",
    "head_config",
    "load_head",
    "read_modules",
    "save_head",
]

SCHEMA_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_TYPES = {"schema_version": int, "head": str, "options": dict, "in_features": int, "out_features": int}


def head_config(head: Head) -> dict[str, Any]:
    """Describe a head as its config.json does."""
    spec = head.spec.to_dict()
    return {
        "schema_version": SCHEMA_VERSION,
        "head": spec["name"],
        "options": spec["options"],
        "in_features": head.in_features,
        "out_features": head.out_features,
    }


def save_head(head: Head, folder: Path) -> None:
    """Write a head's two files into a folder that exists; the same head gives the same bytes."""
    text = json.dumps(head_config(head), indent=2, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_head(folder: Path) -> Head:
    """Read a head that :func:`save_head` wrote.

    Raises:
        ProjheadsError: If a file is missing, broken or of a newer schema, the head is not registered here, or the
            weights are not exactly those of the head: their names, their shapes, their format.
    """
    config = _read_config(folder / CONFIG_FILE)
    try:
        spec = HeadSpec.from_dict({"name": config["head"], "options": config["options"]})
        head = build_head(spec, config["in_features"], config["out_features"])
    except ProjheadsError as error:
        raise ProjheadsError(f"{folder / CONFIG_FILE}: {error}") from error
    weights = _read_weights(folder / WEIGHTS_FILE)
    _check_weights(folder / WEIGHTS_FILE, head, weights)
    head.load_state_dict(weights)
    return head


@dataclass(frozen=True)
class ModuleEntry:
    """One line of a host's modules.json: a folder of the checkpoint and the dotted path of the class that reads it."""

    path: str
    type: str


def read_modules(path: Path) -> list[ModuleEntry]:
    """Read a host's modules.json.

    Raises:
        ProjheadsError: If the file is broken, or a module's folder is not inside the checkpoint.
    """
    entries = _read_json(path)
    try:
        if not isinstance(entries, list):
            raise TypeError
        modules = [ModuleEntry(str(entry["path"]), str(entry["type"])) for entry in entries]
    except (TypeError, KeyError):
        raise ProjheadsError(f"{path}: must be a list of modules, each with a path and a type") from None
    for module in modules:
        folder = PureWindowsPath(module.path)  # which takes both kinds of separators, and drives
        if folder.root or folder.drive or ".." in folder.parts:
            raise ProjheadsError(f'{path}: the path "{module.path}" leads out of the checkpoint')
    return modules


def _read_config(path: Path) -> dict[str, Any]:
    config = _read_json(path)
    if not isinstance(config, dict) or "schema_version" not in config:
        raise ProjheadsError(f"{path}: is not the configuration of a projheads head, it has no schema_version")
    version = config["schema_version"]
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ProjheadsError(
            f"{path}: has schema {version}, this projheads reads up to {SCHEMA_VERSION}; install a newer projheads"
        )
    if config.keys() != _TYPES.keys():
        raise ProjheadsError(f"{path}: has the keys {', '.join(config)}; must have exactly {', '.join(_TYPES)}")
    for key, kind in _TYPES.items():
        if type(config[key]) is not kind:
            raise ProjheadsError(f"{path}: {key} is {json.dumps(config[key])}, must be of type {kind.__name__}")
    return config


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProjheadsError(f"{path}: no such file; the checkpoint is not complete") from None
    except (ValueError, OSError) as error:
        raise ProjheadsError(f"{path}: can not be read as JSON ({error})") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ProjheadsError(f"{path}: no such file; weights are read from safetensors only, never from a pickle")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ProjheadsError(f"{path}: is not a safetensors file ({error}); no other format is read") from error


def _check_weights(path: Path, head: Head, weights: dict[str, Tensor]) -> None:
    expected = head.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        said = [
            f"{word} {', '.join(names)}" for word, names in (("lacks", missing), ("should not have", extra)) if names
        ]
        raise ProjheadsError(f"{path}: are not the weights of {head.spec}: it {' and '.join(said)}")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            got, wanted = tuple(weights[name].shape), tuple(tensor.shape)
            raise ProjheadsError(f"{path}: {name} has the shape {got}, {head.spec} needs {wanted}")
        if weights[name].is_floating_point() != tensor.is_floating_point():
            raise ProjheadsError(f"{path}: {name} is of {weights[name].dtype}, {head.spec} needs {tensor.dtype}")
