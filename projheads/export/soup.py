"""soup: a model whose head has the mean of the weights of several heads, such as the seeds of a variant.

Wortsman et al., 2022, arXiv 2203.05482 (model soups). They help if the heads start from one map
and end in one basin.
"""

import copy
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from projheads.errors import ProjheadsError
from projheads.export.describe_card import add_derived_card
from projheads.export.folder import new_folder
from projheads.export.opened import Source, open_source
from projheads.export.result import Exported, describe
from projheads.export.swap_folder import save_with_head
from projheads.hosts.base import DEFAULT_OPTIONS, OpenOptions, StrPath

__all__ = ["soup_models"]


def soup_models(models: Sequence[StrPath], out: StrPath, options: OpenOptions = DEFAULT_OPTIONS) -> Exported:
    """Write a model whose head is the average of the heads of several models, weight by weight.

    Hidden channels are averaged as they are, without matching them.

    Args:
        models: At least two models of PyLate or sentence-transformers, folders or hub names, with the same head and
            the same backbone. They are only read.
        out: The folder to write. It is complete or not there at all.
        options: How the models may be found and opened.

    Raises:
        ProjheadsError: If a model cannot be used, their heads or backbones differ, or ``out`` exists or cannot be
            written.
    """
    if len(models) < 2:
        raise ProjheadsError(f"a soup needs at least two models, got {len(models)}")
    sources = [open_source(model, options) for model in models]
    first, average = sources[0], copy.deepcopy(sources[0].head)
    for name, other in zip(models[1:], sources[1:], strict=True):
        theirs = {name: tensor.shape for name, tensor in other.head.state_dict().items()}
        if other.head.spec != average.spec or theirs != {k: v.shape for k, v in average.state_dict().items()}:
            raise ProjheadsError(f"{name}: has the head {other.head.spec}, not {average.spec} of {models[0]}")
        if _backbone(other) != _backbone(first):
            raise ProjheadsError(f"{name}: has a different backbone from {models[0]}; only heads are averaged")
    weights = [source.head.state_dict() for source in sources]
    for name, tensor in average.state_dict().items():
        every = [one[name] for one in weights]
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([one.double() for one in every]).mean(dim=0))
        elif not all(torch.equal(one, tensor) for one in every):
            raise ProjheadsError(f"{average.spec}: its {name} differs between the models and cannot be averaged")
    with new_folder(out) as folder:
        opens_in = save_with_head(first, average, folder)
        made = f"Its head is the average of {len(models)} heads, weight by weight."
        source = os.fspath(models[0])
        add_derived_card(folder, average, source, first.folder, out=Path(out), form="averaged", made=made)
    labels = (str(first.head.spec), f"the average of {len(models)} heads")
    return describe(out, "averaged", first.head, average, labels, opens_in)


def _backbone(source: Source) -> list[str]:
    """Hash the weights of a model's transformer.

    Raises:
        ProjheadsError: If it has none in safetensors.
    """
    found = []
    for file in sorted(source.transformer.glob("*.safetensors")):
        with file.open("rb") as opened:
            found.append(hashlib.file_digest(opened, "sha256").hexdigest())
    if not found:
        raise ProjheadsError(f"{source.transformer}: has no *.safetensors, so its backbone cannot be compared")
    return found
