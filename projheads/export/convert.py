"""Folding and exporting a checkpoint: one function for each command."""

from pathlib import Path

import torch
from torch import nn

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError, unknown_name
from projheads.export.folder import new_folder
from projheads.export.onnx_file import write_onnx
from projheads.export.result import Exported, describe
from projheads.export.source import Source, open_source
from projheads.export.stanford import write_stanford
from projheads.export.stock import write_stock
from projheads.folding import fold
from projheads.hosts.dense_chain import dense_layers

__all__ = ["FORMATS", "export_checkpoint", "fold_checkpoint"]

FORMATS = ("dense-chain", "onnx", "stanford")


def fold_checkpoint(model: str, out: Path) -> Exported:
    """Write a stock checkpoint whose head is one matrix: no projheads is needed to open it.

    Args:
        model: A checkpoint of PyLate or sentence-transformers: a folder or a hub name. It is only read.
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
        model: A checkpoint of PyLate or sentence-transformers: a folder or a hub name. It is only read.
        out: The folder to write; it is written whole or not at all.
        to: ``dense-chain``, a stock checkpoint with the hosts' own layers for heads that they can express;
            ``stanford``, colbert-ai's layout for heads that fold; ``onnx``, the whole model, for any head.

    Raises:
        ProjheadsError: If the checkpoint can not be used, the form has no place for it, or ``out`` exists or can not be
            written.
    """
    if to not in FORMATS:
        raise unknown_name("form", to, FORMATS)
    source = open_source(model)
    stands: nn.Module
    if to == "stanford":
        stands = _fold(source)
        with new_folder(out) as folder:
            opens_in = write_stanford(source, stands, folder)
    elif to == "onnx":
        stands = source.head
        with new_folder(out) as folder:
            opens_in = write_onnx(source, folder)
    else:
        layers = dense_layers(source.head)
        stands = nn.Sequential(*layers)
        with new_folder(out) as folder:
            opens_in = write_stock(source, layers, folder)
    return _describe(source, out, to, stands, opens_in)


def _fold(source: Source) -> nn.Linear:
    try:
        return fold(source.head)
    except ProjheadsError as error:
        ways = ["--to onnx (any head)"]
        if _is_chain(source):
            ways.insert(0, "--to dense-chain (a stock checkpoint with this head)")
        raise ProjheadsError(
            f"{error}; export it {' or '.join(ways)}, or linearise it first: the matrix that fits it best"
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


def _describe(source: Source, out: Path, form: str, stands: nn.Module, opens_in: list[str]) -> Exported:
    what = {
        "dense-chain": f"Dense layers: {len(stands) if isinstance(stands, nn.Sequential) else 1}",
        "onnx": "the head as it is, with encoder and normalisation",
    }
    return describe(out, form, source.head, stands, (str(source.head.spec), what.get(form, "one matrix")), opens_in)
