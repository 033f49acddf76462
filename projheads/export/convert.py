"""Folding and exporting a checkpoint: one function for each command."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError, unknown_name
from projheads.export.folder import new_folder
from projheads.export.onnx_file import write_onnx
from projheads.export.source import Source, open_source
from projheads.export.stanford import write_stanford
from projheads.export.stock import write_stock
from projheads.folding import fold
from projheads.hosts.dense_chain import dense_layers

__all__ = ["FORMATS", "Exported", "export_checkpoint", "fold_checkpoint"]

FORMATS = ("dense-chain", "onnx", "stanford")
_STATES = 256


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        out: The folder.
        format: ``folded`` or one of ``FORMATS``.
        head: The spec of the head that the checkpoint had.
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        parameters: Of the head before, and of what stands in its place.
        difference: Largest absolute difference of an embedding's element between the head and what stands in its place,
            in float32 after L2 normalisation, over random token states; None where the head was kept as it is.
        opens_in: The programs that open the folder.
        bytes: Size of its files.
    """

    out: str
    format: str
    head: str
    in_features: int
    out_features: int
    parameters: tuple[int, int]
    difference: float | None
    opens_in: list[str]
    bytes: int


def fold_checkpoint(model: str, out: Path) -> Exported:
    """Write a stock checkpoint whose head is one matrix: no projheads is needed to open it.

    Args:
        model: A checkpoint of PyLate or sentence-transformers: a folder or a hub name.
        out: The folder to write; it is written whole or not at all.

    Raises:
        ProjheadsError: If the checkpoint can not be used, its head is not linear, or ``out`` exists or can not be
            written.
    """
    source = open_source(model)
    linear = _fold(source)
    with new_folder(out) as folder:
        opens_in = write_stock(source, [_as_dense(linear)], folder)
    return _describe(source, out, "folded", linear, opens_in)


def export_checkpoint(model: str, out: Path, *, to: str) -> Exported:
    """Write a checkpoint in another form.

    Args:
        model: A checkpoint of PyLate or sentence-transformers: a folder or a hub name.
        out: The folder to write; it is written whole or not at all.
        to: ``dense-chain``, a stock checkpoint with the hosts' own layers for heads that they can express;
            ``stanford``, colbert-ai's layout for heads that fold; ``onnx``, the whole model, for any head.

    Raises:
        ProjheadsError: If the checkpoint can not be used, the form has no place for it, or ``out`` exists or can not be
            written.
    """
    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
    source = open_source(model)
    if to == "stanford":
        linear = _fold(source)
        with new_folder(out) as folder:
            opens_in = write_stanford(source, linear, folder)
        return _describe(source, out, to, linear, opens_in)
    if to == "onnx":
        with new_folder(out) as folder:
            opens_in = write_onnx(source, folder)
        return _describe(source, out, to, source.head, opens_in)
    layers = dense_layers(source.head)
    with new_folder(out) as folder:
        opens_in = write_stock(source, layers, folder)
    return _describe(source, out, to, source.head, opens_in)


def _fold(source: Source) -> nn.Linear:
    try:
        return fold(source.head)
    except ProjheadsError as error:
        ways = ["--to onnx (any head)"]
        if _is_chain(source):
            ways.insert(0, "--to dense-chain (a stock checkpoint with the head as it is)")
        raise ProjheadsError(
            f"{error}; export it {' or '.join(ways)}, or linearise it first, which fits the best matrix"
        ) from error


def _is_chain(source: Source) -> bool:
    try:
        return bool(dense_layers(source.head))
    except ProjheadsError:
        return False


def _as_dense(linear: nn.Linear) -> DenseLayer:
    with torch.device("meta"):
        layer = DenseLayer(linear.in_features, linear.out_features)
    layer.linear = linear
    return layer


def _describe(source: Source, out: Path, form: str, replacement: nn.Module, opens_in: Sequence[str]) -> Exported:
    return Exported(
        out=str(out),
        format=form,
        head=str(source.head.spec),
        in_features=source.head.in_features,
        out_features=source.head.out_features,
        parameters=(_count(source.head), _count(replacement)),
        difference=None if replacement is source.head else _difference(source.head, replacement),
        opens_in=list(opens_in),
        bytes=sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _difference(head: nn.Module, folded: nn.Module) -> float:
    states = torch.randn(_STATES, next(folded.parameters()).shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (F.normalize(module.float()(states), dim=-1) for module in (head, folded))
    return float((first - second).abs().max())
