"""What a command reports about the model folder that it wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from projheads.hosts.base import StrPath

__all__ = ["Exported", "describe"]

_STATES = 256


@dataclass(frozen=True)
class Exported:
    """A model folder that was written.

    Attributes:
        out: The folder.
        form: ``folded``, ``reparameterized``, ``swapped``, ``averaged``, ``dense-chain``, ``onnx`` or ``stanford``.
        head: The head of the original model.
        replacement: What replaces it.
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding of the replacement.
        parameters: Parameters of the head and of its replacement.
        difference: Largest absolute difference between elements of their L2-normalised embeddings (of the first outputs
            if the replacement has more): of random token states in float32, or for ``onnx`` of texts, between the file
            and the model in its own precision.
        opens_in: The programs that open the folder.
        bytes: Size of its files.
        precision: Data type in which the original computed the embeddings that were compared.
    """

    out: str
    form: str
    head: str
    replacement: str
    in_features: int
    out_features: int
    parameters: tuple[int, int]
    difference: float
    opens_in: list[str]
    bytes: int
    precision: str = "float32"


def describe(
    out: StrPath, form: str, head: nn.Module, replacement: nn.Module, labels: tuple[str, str], opens_in: Sequence[str]
) -> Exported:
    """Describe the folder ``out``.

    Args:
        out: The folder.
        form: What was done.
        head: The original head, (..., in_features) -> (..., out_features).
        replacement: What replaces it.
        labels: The names of the two.
        opens_in: The programs that open the folder.
    """
    weights = next(parameter for parameter in head.parameters() if parameter.ndim == 2)
    states = torch.randn(_STATES, weights.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = (_in_float32(module)(states) for module in (head, replacement))
    width = min(before.shape[1], after.shape[1])
    first, second = (F.normalize(rows[:, :width], dim=-1) for rows in (before, after))
    return Exported(
        out=str(out),
        form=form,
        head=labels[0],
        replacement=labels[1],
        in_features=weights.shape[1],
        out_features=after.shape[1],
        parameters=(_count(head), _count(replacement)),
        difference=float((first - second).abs().max()),
        opens_in=list(opens_in),
        bytes=sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file()),
    )


def _in_float32(module: nn.Module) -> nn.Module:
    return module.cpu().float().eval()


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
