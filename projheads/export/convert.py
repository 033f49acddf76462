"""Fold and export a model folder: one function per command."""

import dataclasses
import os
from pathlib import Path
from typing import Any, overload

from torch import nn

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError, unknown_name
from projheads.export.describe_card import add_derived_card
from projheads.export.folder import new_folder
from projheads.export.onnx_file import write_onnx
from projheads.export.opened import Source, open_source
from projheads.export.result import Exported, describe
from projheads.export.stanford import write_stanford
from projheads.export.stock import write_stock
from projheads.export.swap_folder import save_with_head
from projheads.folding import fold, folds
from projheads.head import Head
from projheads.hosts.base import DEFAULT_OPTIONS, OpenOptions, StrPath
from projheads.hosts.dense_chain import dense_layers, from_dense_chain
from projheads.hosts.projection import find_projection
from projheads.reparameterization import reparameterize

__all__ = ["FORMATS", "export_model", "fold_model"]

FORMATS = ("dense-chain", "onnx", "stanford")


@overload
def fold_model(model: nn.Module) -> nn.Linear: ...


@overload
def fold_model(model: StrPath, out: StrPath, options: OpenOptions = ...) -> Exported: ...


def fold_model(
    model: nn.Module | StrPath, out: StrPath | None = None, options: OpenOptions = DEFAULT_OPTIONS
) -> nn.Linear | Exported:
    """Replace the head of a model by its cheapest form; see :func:`projheads.reparameterize`.

    The head becomes one matrix if it is linear, as it must be in a model in memory. On disk another head becomes the
    equal head with the fewest multiply-adds: a stock model if the hosts' own layers express it, and a model that needs
    projheads if not.

    Args:
        model: A model in memory, of any library that ``swap_head`` knows, which is changed in place; or a model of
            PyLate or sentence-transformers on disk, a folder or a hub name, which is only read.
        out: The folder to write for a model on disk. It is complete or not there at all.
        options: How a model on disk may be found and opened.

    Returns:
        For a model in memory its new layer, for one on disk what was written.

    Raises:
        ProjheadsError: If the model cannot be used, its head has no cheaper form, or ``out`` exists or cannot be
            written.
    """
    if isinstance(model, nn.Module):
        if out is not None:
            raise ProjheadsError("fold_model: a model in memory is folded in place; save it with its own library")
        return _fold_in_place(model)
    if out is None:
        raise ProjheadsError(f"fold_model: {os.fspath(model)} is a model on disk; give the folder to write as `out`")
    source = open_source(model, options)
    if folds(source.head):
        linear = fold(source.head)
        with new_folder(out) as folder:
            opens_in = write_stock(source, [DenseLayer.around(linear)], folder)
            _add_card(source, model, folder, out, "folded", _as_head(linear))
        return _describe(source, out, "folded", linear, opens_in)
    cheapest = reparameterize(source.head)
    if cheapest is source.head:
        _fold(source)
    try:
        layers = dense_layers(cheapest)
    except ProjheadsError:
        layers = None
    with new_folder(out) as folder:
        opens_in = save_with_head(source, cheapest, folder) if layers is None else write_stock(source, layers, folder)
        _add_card(source, model, folder, out, "reparameterized", cheapest)
    what = str(cheapest.spec) if layers is None else f"{cheapest.spec}, as Dense layers"
    return describe(out, "reparameterized", source.head, cheapest, (str(source.head.spec), what), opens_in)


def export_model(model: StrPath, out: StrPath, options: OpenOptions = DEFAULT_OPTIONS, *, to: str) -> Exported:
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
            _add_card(source, model, folder, out, to, _as_head(replacement))
    elif to == "onnx":
        replacement = source.head
        with new_folder(out) as folder:
            opens_in, *compared = write_onnx(source, folder)
            _add_card(source, model, folder, out, to, source.head)
    else:
        layers = dense_layers(source.head)
        replacement = nn.Sequential(*layers)
        with new_folder(out) as folder:
            opens_in = write_stock(source, layers, folder)
            _add_card(source, model, folder, out, to, source.head)
    made = _describe(source, out, to, replacement, opens_in)
    return dataclasses.replace(made, difference=compared[0], precision=compared[1]) if compared else made


def _fold_in_place(model: nn.Module) -> nn.Linear:
    found = find_projection(model)
    linear = fold(found.head)
    found.put_linear(linear)
    return linear


def _fold(source: Source) -> nn.Linear:
    try:
        return fold(source.head)
    except ProjheadsError as error:
        ways = ["--to onnx (any head)"]
        if _is_chain(source):
            ways.insert(0, "--to dense-chain (a stock model with this head)")
        raise ProjheadsError(f"{error}; export it {' or '.join(ways)}") from error


def _is_chain(source: Source) -> bool:
    try:
        return bool(dense_layers(source.head))
    except ProjheadsError:
        return False


def _as_head(linear: nn.Linear) -> Head:
    """Return a matrix as a head, to describe it."""
    return from_dense_chain([DenseLayer.around(linear)])


def _add_card(source: Source, model: StrPath, folder: Path, out: StrPath, form: str, head: Head) -> None:
    folded = "the head was folded into one matrix in float64"
    made = {
        "folded": f"Folded with projheads: {folded}.",
        "reparameterized": "Folded with projheads: the head is the equal one with the fewest multiply-adds.",
        "stanford": f"Exported to Stanford's layout with projheads: {folded}.",
        "onnx": "Exported to ONNX with projheads: encoder, head and normalisation as one graph.",
        "dense-chain": "Exported with projheads: the head as the hosts' own Dense layers.",
    }
    add_derived_card(folder, head, os.fspath(model), source.folder, out=Path(out), form=form, made=made[form])


def _describe(source: Source, out: StrPath, form: str, replacement: nn.Module, opens_in: list[str]) -> Exported:
    what = {
        "dense-chain": f"Dense layers: {len(replacement) if isinstance(replacement, nn.Sequential) else 1}",
        "onnx": "the same head, with encoder and normalisation",
    }
    return describe(
        out, form, source.head, replacement, (str(source.head.spec), what.get(form, "one matrix")), opens_in
    )
