"""Fold and export a model folder: one function per command."""

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError, unknown_name
from projheads.export.folder import new_folder
from projheads.export.onnx_file import write_onnx
from projheads.export.opened import Source, open_source
from projheads.export.result import Exported, describe
from projheads.export.stanford import write_stanford
from projheads.export.stock import write_stock
from projheads.export.swap_folder import save_with_head
from projheads.folding import fold, folds
from projheads.hosts.base import DEFAULT_OPTIONS, OpenOptions
from projheads.hosts.dense_chain import dense_layers
from projheads.reparameterization import reparameterize

__all__ = ["FORMATS", "export_model", "fold_model"]

FORMATS = ("dense-chain", "onnx", "stanford")


def fold_model(model: str, out: Path, options: OpenOptions = DEFAULT_OPTIONS) -> Exported:
    """Write a model whose head is in its cheapest form; see :func:`projheads.reparameterize`.

    The head becomes one matrix if it is linear. Otherwise it becomes the equal head with the fewest multiply-adds: a
    stock model if the hosts' own layers express it, and a model that needs projheads if not.

    Args:
        model: A model of PyLate or sentence-transformers: a folder or a hub name. It is only read.
        out: The folder to write. It is complete or not there at all.
        options: How the model may be found and opened.

    Raises:
        ProjheadsError: If the model cannot be used, its head has no cheaper form, or ``out`` exists or cannot be
            written.
    """
    source = open_source(model, options)
    if folds(source.head):
        linear = fold(source.head)
        with new_folder(out) as folder:
            opens_in = write_stock(source, [DenseLayer.around(linear)], folder)
        return _describe(source, out, "folded", linear, opens_in)
    cheapest = reparameterize(source.head)
    if cheapest is source.head:
        _fold(source)
    try:
        layers = dense_layers(cheapest)
    except ProjheadsError:
        with new_folder(out) as folder:
            opens_in = save_with_head(source, cheapest, folder)
        what = str(cheapest.spec)
    else:
        with new_folder(out) as folder:
            opens_in = write_stock(source, layers, folder)
        what = f"{cheapest.spec}, as Dense layers"
    return describe(out, "reparameterized", source.head, cheapest, (str(source.head.spec), what), opens_in)


def export_model(model: str, out: Path, options: OpenOptions = DEFAULT_OPTIONS, *, to: str) -> Exported:
    """Write a model in a different form.

    Args:
        model: A model of PyLate or sentence-transformers: a folder or a hub name. It is only read.
        out: The folder to write. It is complete or not there at all.
        options: How the model may be found and opened.
        to: ``dense-chain``, a stock model with the hosts' own layers, for heads that they can express; ``stanford``,
            colbert-ai's layout, for heads that fold; ``onnx``, the complete model, for any head.

    Raises:
        ProjheadsError: If the model cannot be used, does not fit the form, or ``out`` exists or cannot be written.
    """
    if to not in FORMATS:
        raise unknown_name("form", to, FORMATS)
    source = open_source(model, options)
    replacement: nn.Module
    compared: list[Any] = []
    if to == "stanford":
        replacement = _fold(source)
        with new_folder(out) as folder:
            opens_in = write_stanford(source, replacement, folder)
    elif to == "onnx":
        replacement = source.head
        with new_folder(out) as folder:
            opens_in, *compared = write_onnx(source, folder)
    else:
        layers = dense_layers(source.head)
        replacement = nn.Sequential(*layers)
        with new_folder(out) as folder:
            opens_in = write_stock(source, layers, folder)
    made = _describe(source, out, to, replacement, opens_in)
    return dataclasses.replace(made, difference=compared[0], precision=compared[1]) if compared else made


def _fold(source: Source) -> nn.Linear:
    try:
        return fold(source.head)
    except ProjheadsError as error:
        ways = ["--to onnx (any head)"]
        if _is_chain(source):
            ways.insert(0, "--to dense-chain (a stock model with this head)")
        raise ProjheadsError(
            f"{error}; export it {' or '.join(ways)}, or linearise it first (the best-fitting matrix)"
        ) from error


def _is_chain(source: Source) -> bool:
    try:
        return bool(dense_layers(source.head))
    except ProjheadsError:
        return False


def _describe(source: Source, out: Path, form: str, replacement: nn.Module, opens_in: list[str]) -> Exported:
    what = {
        "dense-chain": f"Dense layers: {len(replacement) if isinstance(replacement, nn.Sequential) else 1}",
        "onnx": "the same head, with encoder and normalisation",
    }
    return describe(
        out, form, source.head, replacement, (str(source.head.spec), what.get(form, "one matrix")), opens_in
    )
