"""Write a model with a different head: a host opens it, the head is swapped, and the result is saved."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from projheads.errors import ProjheadsError, cannot_read
from projheads.export.describe_card import add_derived_card
from projheads.export.folder import new_folder
from projheads.export.opened import Source
from projheads.export.result import Exported, describe
from projheads.head import Head
from projheads.hosts import load_host
from projheads.hosts.base import DEFAULT_OPTIONS, HostModel, OpenOptions, StrPath
from projheads.hosts.model_folder import is_stock
from projheads.hosts.opening import find_model
from projheads.hosts.trust import check_links
from projheads.spec import HeadSpec
from projheads.swap import swap_head

__all__ = ["read_texts", "save_with_head", "swap_model"]

_BATCH = 32


def swap_model(
    model: StrPath,
    spec: HeadSpec | str,
    out: StrPath,
    options: OpenOptions = DEFAULT_OPTIONS,
    *,
    init: str = "preserve",
    out_features: int | None = None,
    seed: int = 0,
    texts: Sequence[str] = (),
) -> Exported:
    """Write a model with a different head on the same backbone.

    Args:
        model: A model of PyLate, sentence-transformers or Stanford's layout: a folder or a hub name. It is only read.
        spec: The new head.
        out: The folder to write. It is complete or not there at all.
        options: How the model may be found and opened.
        init: How its weights are initialised; ``preserve`` keeps the embeddings.
        out_features: Width of a token embedding; None for the old one.
        seed: Seed of what is drawn.
        texts: Documents whose token states are passed to the initialisations that use data.

    Raises:
        ProjheadsError: If the model cannot be opened, the head does not allow the initialisation, or ``out`` exists or
            cannot be written.
    """
    folder = find_model(model, options)
    check_links(folder)
    opened = load_host("auto", model_folder=folder).load(str(folder), options)
    before, host = copy.deepcopy(opened.head), opened.host
    sample = _token_states(opened, texts) if texts else None
    generator = torch.Generator().manual_seed(seed)
    head = swap_head(opened.native, spec, init=init, out_features=out_features, sample=sample, generator=generator)
    with new_folder(out) as temporary:
        opened.save(temporary)
        made = f"Its head was replaced by `{head.spec}` (init {init}, seed {seed}); it has not been trained since."
        add_derived_card(temporary, head, os.fspath(model), folder, out=Path(out), form="swapped", made=made)
    labels = str(getattr(before, "spec", "the host's own layers")), str(head.spec)
    return describe(out, "swapped", before, copy.deepcopy(head), labels, [_opens_in(host, Path(out))])


def save_with_head(source: Source, head: Head, folder: Path) -> list[str]:
    """Write a model with its head replaced by a built one into a folder, and return what opens it."""
    opened = load_host("auto", model_folder=source.folder).load(str(source.folder), source.options)
    swap_head(opened.native, copy.deepcopy(head))
    opened.save(folder)
    return [_opens_in(opened.host, folder)]


def _opens_in(host: str, folder: Path) -> str:
    """Name what opens a folder: the host without projheads if the head consists of the host's layers."""
    if is_stock(folder):
        return host
    return f"{host} with projheads" + (" (with trust_remote_code=True)" if host == "sentence-transformers" else "")


def read_texts(file: StrPath) -> list[str]:
    """Read texts, one per line.

    Raises:
        ProjheadsError: If the file cannot be read or holds no text.
    """
    try:
        texts = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise cannot_read(Path(file), error) from error
    if not texts:
        raise ProjheadsError(f"{file}: holds no text; write one per line")
    return texts


def _token_states(model: HostModel, texts: Sequence[str]) -> Tensor:
    states = []
    for first in range(0, len(texts), _BATCH):
        tokens = model.tokenize(texts[first : first + _BATCH], is_query=False)
        with torch.no_grad():
            found = model.token_states(tokens).cpu()
        states.append(found[model.scoring_mask(tokens, is_query=False).cpu()])
    return torch.cat(states)
