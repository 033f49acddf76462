"""From a spec to a head with its first weights."""

import torch
from torch import Tensor, nn

from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.init import initialise, isolated_random_state
from projheads.presets import resolve_preset
from projheads.registry import check_spec, head_class
from projheads.spec import HeadSpec

__all__ = ["build_head", "construct_head"]


def build_head(
    spec: HeadSpec | str,
    in_features: int,
    out_features: int,
    *,
    init: str = "torch",
    generator: torch.Generator | None = None,
    sample: Tensor | None = None,
    old: nn.Module | None = None,
) -> Head:
    """Build a head on the CPU; all randomness comes from the generator, none from the global random state.

    Args:
        spec: A head or a preset, or its text form.
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        init: One of :func:`projheads.init.list_inits`.
        generator: A CPU generator; None for one with seed 0. The same state gives the same bits.
        sample: Token states (n, in_features), for the initialisations that look at data.
        old: The head whose map ``preserve`` takes over: any that :func:`projheads.folding.fold` takes.

    Returns:
        The head, in training mode; its ``spec`` is the given one as :func:`projheads.registry.check_spec` returns it.

    Raises:
        ProjheadsError: If a name, an option or a width is wrong, or the head does not allow the initialisation.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    with torch.device("cpu"):
        with isolated_random_state(generator):
            head = construct_head(spec, in_features, out_features)
        initialise(head, init, generator=generator, sample=sample, old=old)
    return head


def construct_head(spec: HeadSpec | str, in_features: int, out_features: int) -> Head:
    """Call the constructor of a head with checked options; for heads that hold another head.

    Weights are drawn as that constructor draws them, from torch's global random state.

    Raises:
        ProjheadsError: If a name, an option or a width is wrong.
    """
    spec = check_spec(spec)
    for name, width in (("in_features", in_features), ("out_features", out_features)):
        if width < 1:
            raise ProjheadsError(f'head "{spec.name}": {name} is {width}; a width is at least 1')
    resolved = resolve_preset(spec)
    head = head_class(resolved.name)(in_features, out_features, **resolved.options)
    head.spec = spec
    return head
