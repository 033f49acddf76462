"""A checkpoint with another head: opened by a host, its head swapped, and the whole saved anew."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from projheads.errors import ProjheadsError
from projheads.export.folder import new_folder
from projheads.export.result import Exported, describe
from projheads.hosts import load_host
from projheads.hosts.backbone import resolve_backbone
from projheads.hosts.base import HostModel
from projheads.spec import HeadSpec
from projheads.swap import swap_head

__all__ = ["read_texts", "swap_checkpoint"]

_BATCH = 32


def swap_checkpoint(
    model: str, spec: HeadSpec | str, out: Path, *, init: str = "preserve", seed: int = 0, texts: Sequence[str] = ()
) -> Exported:
    """Write a checkpoint with another head on the same backbone.

    Args:
        model: A checkpoint of PyLate or sentence-transformers: a folder or a hub name. It is only read.
        spec: The new head.
        out: The folder to write; it is written whole or not at all.
        init: How its first weights are made; ``preserve`` keeps the embeddings.
        seed: What is drawn, is drawn from it.
        texts: Documents, whose token states the initialisations that look at data get.

    Raises:
        ProjheadsError: If the checkpoint can not be opened, the head does not allow the initialisation, or ``out``
            exists or can not be written.
    """
    folder = resolve_backbone(model)
    opened: HostModel = load_host("auto", checkpoint=folder).load(str(folder))
    before, host = copy.deepcopy(opened.head), opened.host
    sample = _token_states(opened, texts) if texts else None
    generator = torch.Generator().manual_seed(seed)
    head = swap_head(opened.native, spec, init=init, sample=sample, generator=generator)
    with new_folder(out) as temporary:
        opened.save(temporary)
    labels = str(getattr(before, "spec", "the host's own layers")), str(head.spec)
    needs_trust = " (with trust_remote_code=True)" if host == "sentence-transformers" else ""
    return describe(out, "swapped", before, copy.deepcopy(head), labels, [f"{host} with projheads{needs_trust}"])


def read_texts(file: Path) -> list[str]:
    """Read texts, one a line.

    Raises:
        ProjheadsError: If there is no such file, or no text in it.
    """
    try:
        texts = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ProjheadsError(f"{file}: can not be read ({error})") from error
    if not texts:
        raise ProjheadsError(f"{file}: holds no text; write one a line")
    return texts


def _token_states(model: HostModel, texts: Sequence[str]) -> Tensor:
    states = []
    for first in range(0, len(texts), _BATCH):
        tokens = model.tokenize(texts[first : first + _BATCH], is_query=False)
        with torch.no_grad():
            found = model.token_states(tokens).cpu()
        states.append(found[model.scoring_mask(tokens, is_query=False).cpu()])
    return torch.cat(states)
