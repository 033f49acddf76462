"""A head on disk, the same under every host: config.json with its name and options, model.safetensors with its weights.

Neither file holds the path of a Python file or class, so a head file may be renamed or moved without breaking saved
models, and reading them runs no code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from projheads.build import build_head, sketch_head
from projheads.errors import ProjheadsError, cannot_read, parse_json
from projheads.head import Head
from projheads.spec import HeadSpec

__all__ = [
    "CONFIG_FILE",
    "HEAD_FILE",
    "SCHEMA_VERSION",
    "WEIGHTS_FILE",
    "ModuleEntry",
    "check_inside",
    "head_config",
    "head_of_config",
    "load_head",
    "read_json",
    "read_modules",
    "read_object",
    "read_weights",
    "save_head",
    "to_save",
    "write_head_config",
]

SCHEMA_VERSION = 1
CONFIG_FILE = "config.json"
HEAD_FILE = "head.json"
"""Says which head a chain of the host's own ``Dense`` is, beside the files of its first layer."""

WEIGHTS_FILE = "model.safetensors"

_LONGEST_REASON = 300
_TYPES = {"schema_version": int, "head": str, "options": dict, "in_features": int, "out_features": int}


def head_config(head: Head) -> dict[str, Any]:
    """Return the contents of a head's config.json."""
    spec = head.spec.to_dict()
    return {
        "schema_version": SCHEMA_VERSION,
        "head": spec["name"],
        "options": spec["options"],
        "in_features": head.in_features,
        "out_features": head.out_features,
    }


def save_head(head: Head, folder: Path) -> None:
    """Write a head's two files into an existing folder; the same head gives the same bytes.

    Raises:
        ProjheadsError: If its state is not made of tensors that safetensors stores.
    """
    write_head_config(head, folder / CONFIG_FILE)
    try:
        save_file(to_save(head.state_dict()), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:  # a head may be anyone's
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ProjheadsError(f"head {head.spec}: its weights cannot be saved ({reason})") from error


def to_save(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as safetensors takes them: on the CPU, each in its own memory, so tied ones are copied."""
    memory: set[int] = set()
    weights = {}
    for name, tensor in state.items():
        weights[name] = tensor.detach().cpu().contiguous()
        place = weights[name].untyped_storage().data_ptr()
        if place in memory:
            weights[name] = weights[name].clone()
        memory.add(place)
    return weights


def write_head_config(head: Head, file: Path) -> None:
    """Write which head it is: its name, options and widths."""
    file.write_text(json.dumps(head_config(head), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_head(folder: Path) -> Head:
    """Read a head that :func:`save_head` wrote; the weights keep their dtype.

    Raises:
        ProjheadsError: If a file is missing, damaged, outside the folder or of a newer schema, the head is not
            registered, or the weights are not exactly those of the head: names, shapes, format, all finite.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        check_inside(folder / name, folder)
    spec, widths, shapes = head_of_config(folder / CONFIG_FILE)
    weights = read_weights(folder / WEIGHTS_FILE)
    _check_weights(folder / WEIGHTS_FILE, spec, shapes, weights)
    head = build_head(spec, *widths)
    tied: dict[int, str] = {}
    for name, tensor in head.state_dict(keep_vars=True).items():
        first = tied.setdefault(id(tensor), name)
        if not torch.equal(weights[first], weights[name]):
            raise ProjheadsError(f"{folder / WEIGHTS_FILE}: {first} and {name} are one weight of {spec}, but differ")
        tensor.data = weights[name]  # in place, so that tied weights stay tied
    return head


def head_of_config(file: Path) -> tuple[HeadSpec, tuple[int, int], dict[str, Tensor]]:
    """Read a head's configuration; return its spec, its widths and its parameters without memory.

    Raises:
        ProjheadsError: If the file is damaged or of a newer schema, or the head is not registered.
    """
    config = _read_config(file)
    try:
        spec = HeadSpec.from_dict({"name": config["head"], "options": config["options"]})
        widths = config["in_features"], config["out_features"]
        shapes = sketch_head(spec, *widths).state_dict()
    except ProjheadsError as error:
        advice = ""
        if str(error).startswith("unknown head"):
            advice = "; if a file of yours registers it, pass it with --heads FILE or import it first"
        raise ProjheadsError(f"{file}: {error}{advice}") from error
    except (RuntimeError, RecursionError) as error:
        raise ProjheadsError(f"{file}: the head cannot be built ({error})") from error
    return spec, widths, shapes


def check_inside(path: Path, root: Path) -> None:
    """Check that a file of a model folder is not a link out of it; links to the blobs of a hub cache are fine.

    Raises:
        ProjheadsError: If it is.
    """
    found, base = path.resolve(), root.resolve()
    blobs = [parent.parent / "blobs" for parent in base.parents if parent.name == "snapshots"]
    if not any(found.is_relative_to(allowed) for allowed in (base, *blobs)):
        raise ProjheadsError(f"{path}: is a link that leads out of the model folder")


@dataclass(frozen=True)
class ModuleEntry:
    """An entry of a host's modules.json: a subfolder of the model and the dotted path of the class that reads it."""

    path: str
    type: str


def read_modules(path: Path) -> list[ModuleEntry]:
    """Read a host's modules.json.

    Raises:
        ProjheadsError: If the file is damaged, or a module's folder is outside the model folder.
    """
    entries = read_json(path)
    try:
        modules = [ModuleEntry(entry["path"], entry["type"]) for entry in entries]
        texts = [text for module in modules for text in (module.path, module.type)]
        if not modules or not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise TypeError
    except (TypeError, KeyError):
        raise ProjheadsError(f"{path}: must be a list of modules, each with a path and a type") from None
    for module in modules:
        folder = PureWindowsPath(module.path)  # understands both separators, and drives
        if folder.root or folder.drive or ".." in folder.parts:
            raise ProjheadsError(f'{path}: the path "{module.path}" leads out of the model folder')
        check_inside(path.parent / module.path, path.parent)
    return modules


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if not isinstance(config, dict) or "schema_version" not in config:
        raise ProjheadsError(f"{path}: is not the configuration of a projheads head: it has no schema_version")
    version = config["schema_version"]
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ProjheadsError(
            f"{path}: has schema {version}, this projheads reads up to {SCHEMA_VERSION}; install a newer projheads"
        )
    if config.keys() != _TYPES.keys():
        raise ProjheadsError(f"{path}: has the keys {', '.join(config)}; must have exactly {', '.join(_TYPES)}")
    for key, kind in _TYPES.items():
        if type(config[key]) is not kind:
            raise ProjheadsError(f"{path}: {key} is {_short(config[key])}, must be of type {kind.__name__}")
    return config


def read_json(path: Path) -> Any:
    """Read a JSON file of a model folder.

    Raises:
        ProjheadsError: If it is missing or not JSON.
    """
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise ProjheadsError(f"{path}: no such file; the model folder is incomplete") from None
    except (ValueError, OSError) as error:
        raise cannot_read(path, error, "JSON") from error


def read_object(path: Path, **kinds: type) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Args:
        path: The file.
        kinds: The types of some of its keys, each of which may also be missing or null.

    Raises:
        ProjheadsError: If it is missing, not an object, or a key has a different type.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ProjheadsError(f"{path}: must be a JSON object, not {_short(value)}")
    for key, kind in kinds.items():
        if value.get(key) is not None and type(value[key]) is not kind:
            raise ProjheadsError(f"{path}: {key} is {_short(value[key])}, must be of type {kind.__name__}")
    return value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ProjheadsError: If it is missing or in a different format.
    """
    if not path.is_file():
        raise ProjheadsError(f"{path}: no such file; weights are read from safetensors only, never from a pickle")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ProjheadsError(f"{path}: is not a safetensors file ({error}), the only format that is read") from error


def _check_weights(path: Path, spec: HeadSpec, expected: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        said = [
            f"{word} {', '.join(names)}" for word, names in (("lacks", missing), ("should not have", extra)) if names
        ]
        raise ProjheadsError(f"{path}: not the weights of {spec}: the file {' and '.join(said)}")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            got, wanted = tuple(weights[name].shape), tuple(tensor.shape)
            raise ProjheadsError(f"{path}: {name} has the shape {got}, {spec} needs {wanted}")
        if weights[name].is_floating_point() != tensor.is_floating_point():
            raise ProjheadsError(f"{path}: {name} is of {weights[name].dtype}, {spec} needs {tensor.dtype}")
        if not weights[name].isfinite().all():
            raise ProjheadsError(f"{path}: {name} has values that are not finite; the head cannot be used")
