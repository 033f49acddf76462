"""How the adapters let their host open a model: quietly, from a seed, and with all of its weights."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from projheads.errors import ProjheadsError
from projheads.hosts.adapters import without_adapter
from projheads.hosts.backbone import cannot_open, resolve_backbone
from projheads.hosts.base import OpenOptions, StrPath
from projheads.hosts.model_folder import check_complete, check_projection
from projheads.hosts.quiet import quiet, seeded

__all__ = ["find_model", "naming", "opening"]

_NOT_USED = "pooler"
"""Weights of no importance: token states do not pass through a pooler, and many backbones have none saved."""

_OLD_BUFFERS = ("position_ids", "token_type_ids", "inv_freq")
"""What older versions of transformers saved beside the weights."""


def find_model(path: StrPath, options: OpenOptions) -> Path:
    """Return the folder of a multi-vector model, ready to be opened: of an adapter, a copy with a complete backbone.

    Raises:
        ProjheadsError: If there is no such model, or it has no projection, lacks files, needs trust, or has an adapter
            that cannot be merged.
    """
    folder = resolve_backbone(path, options)
    check_projection(folder)
    check_complete(folder)
    return without_adapter(folder, options)


@contextlib.contextmanager
def naming(kind: str, name: StrPath) -> Iterator[None]:
    """Let errors about a model begin with its name; see :func:`opening` for the arguments."""
    try:
        yield
    except ProjheadsError as error:
        raise ProjheadsError(f'{kind} "{name}": {error}') from error


@contextlib.contextmanager
def opening(kind: str, name: StrPath, *, seed: int = 0) -> Iterator[None]:
    """Let a host open a model, quietly and drawing from a seed.

    Args:
        kind: What is opened, for the error: ``"model"`` or ``"backbone"``.
        name: Its name as the user gave it.
        seed: Seed of the weights that it lacks.

    Raises:
        ProjheadsError: If the host fails, or weights that token states depend on are missing or unexpected.
    """
    try:
        with quiet(), seeded(seed), _complete_weights(kind, name):
            yield
    except ProjheadsError:
        raise
    except Exception as error:  # hosts fail in all kinds of ways on a damaged folder
        raise cannot_open(kind, name, error) from error


@contextlib.contextmanager
def _complete_weights(kind: str, name: StrPath) -> Iterator[None]:
    """Raise if transformers opens a model with missing or unexpected weights, which it would only log."""
    from transformers import PreTrainedModel

    inherited = PreTrainedModel.__dict__["from_pretrained"]

    def from_pretrained(cls: Any, /, *arguments: Any, output_loading_info: bool = False, **options: Any) -> Any:
        model, found = inherited.__func__(cls, *arguments, output_loading_info=True, **options)
        missing = [key for key in found["missing_keys"] if _NOT_USED not in key.split(".")]
        unexpected = [key for key in found["unexpected_keys"] if _is_inside(model, key)]
        for word, keys in (("lacks", missing), ("does not know", unexpected)):
            if keys:
                listed = ", ".join(sorted(keys)[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
                raise ProjheadsError(f'{kind} "{name}": {type(model).__name__} {word} the weights {listed}')
        return (model, found) if output_loading_info else model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained = inherited


def _is_inside(model: Any, key: str) -> bool:
    """Return whether a weight belongs to a part of the model, not to a different head such as a language model's."""
    parts = key.removeprefix(f"{model.base_model_prefix}.").split(".")
    return parts[0] in dict(model.named_children()) and parts[-1] not in _OLD_BUFFERS
