"""Replace the head of an existing model and keep everything else."""

import torch
from torch import Tensor, nn

from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.head import Head, head_label, reference_tensor
from projheads.hosts.projection import find_projection
from projheads.init import initialise
from projheads.spec import HeadSpec

__all__ = ["swap_head"]


def swap_head(
    model: nn.Module,
    spec: HeadSpec | str | Head,
    *,
    init: str | None = None,
    out_features: int | None = None,
    sample: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Head:
    """Replace the projection of a model in memory; its backbone, prefixes, lengths and masks do not change.

    The projection is found in PyLate's ``ColBERT`` and sentence-transformers' ``MultiVectorEncoder`` (a ``Dense``, a
    chain of them, or a head of ours), Stanford's ``HF_ColBERT`` (``linear``) and colpali-engine's models
    (``custom_text_proj``). The first two save and load the new head. Stanford's and colpali-engine's own loaders know
    only a linear layer: replace the trained head by its ``fold`` before saving.

    Args:
        model: The host's own model; changed in place.
        spec: The new head: a spec, its text or a preset's name, built with the old head's widths; or a built head.
        init: One of :func:`projheads.init.list_inits`. None means ``preserve`` for a spec, so that the embeddings
            stay the same, and a built head's own weights otherwise.
        out_features: Width of a token embedding; None for the old one. ``preserve`` also starts a wider head: its first
            outputs are the old ones.
        sample: Token states (n, in_features) for the initialisations that use data.
        generator: A CPU generator; None for one with seed 0.

    Returns:
        The new head, part of the model: on the device, in the dtype and in the training mode of the old one.

    Raises:
        ProjheadsError: If the model has no known projection, the widths do not fit, or the new head does not allow the
            initialisation; the model is then unchanged.
    """
    found = find_projection(model)
    if isinstance(spec, Head):
        head = spec
        if not hasattr(head, "spec"):
            raise ProjheadsError(f"{head_label(head)} has no spec, so it cannot be saved; build it with build_head")
        if init is not None:
            generator = torch.Generator().manual_seed(0) if generator is None else generator
            initialise(head, init, generator=generator, sample=sample, old=found.head)
    else:
        head = build_head(
            spec,
            found.in_features,
            out_features or found.out_features,
            init=init or "preserve",
            generator=generator,
            sample=sample,
            old=found.head,
        )
    if head.in_features != found.in_features:
        raise ProjheadsError(
            f"{head_label(head)}: has in_features={head.in_features}, the model's token states are "
            f"{found.in_features} wide"
        )
    weights = reference_tensor(found.head)
    head = head.to(device=weights.device, dtype=weights.dtype).train(found.head.training)
    found.put(head)
    return head
