"""Builds an initialised head from a spec."""

import contextlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.init import initialise, isolated_random_state
from projheads.matched import MatchedProducts
from projheads.presets import resolve_preset
from projheads.registry import check_spec, head_class
from projheads.spec import HeadSpec

__all__ = ["build_head", "construct_head", "sketch_head"]

MOST_TENSORS = 100_000
"""Parameters, counted as tensors, of a head that is nested or deep beyond use."""


def build_head(
    spec: HeadSpec | str,
    in_features: int,
    out_features: int,
    *,
    init: str = "torch",
    generator: torch.Generator | None = None,
    sample: Tensor | None = None,
    old: nn.Module | None = None,
    matches: MatchedProducts | None = None,
) -> Head:
    """Build a head on the CPU. Only the generator provides randomness, never the global random state.

    Args:
        spec: A head or preset, as a spec or as text.
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        init: One of :func:`projheads.init.list_inits`.
        generator: A CPU generator; None for one with seed 0. The same state gives bitwise the same weights.
        sample: Token states (n, in_features), for data-dependent initialisations.
        old: The head whose map ``preserve`` takes over; any module accepted by :func:`projheads.folding.fold`.
        matches: Products of matched token states, for ``init="svd"``; see :func:`projheads.matched.matched_products`.

    Returns:
        The head, in training mode; its ``spec`` is the given one as returned by :func:`projheads.registry.check_spec`.

    Raises:
        ProjheadsError: If a name, option or width is invalid, or the head does not support the initialisation.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    sketch_head(spec, in_features, out_features)
    with torch.device("cpu"):
        with isolated_random_state(generator):
            head = construct_head(spec, in_features, out_features)
        initialise(head, init, generator=generator, sample=sample, old=old, matches=matches)
    return head


def construct_head(spec: HeadSpec | str, in_features: int, out_features: int) -> Head:
    """Construct a head with checked options; for heads that contain another head.

    The constructor draws the weights, from torch's global random state.

    Raises:
        ProjheadsError: If a name, option or width is invalid.
    """
    spec = check_spec(spec)
    for name, width in (("in_features", in_features), ("out_features", out_features)):
        if width < 1:
            raise ProjheadsError(f'head "{spec.name}": {name} is {width}; it must be at least 1')
    resolved = resolve_preset(spec)
    head = head_class(resolved.name)(in_features, out_features, **resolved.options)
    head.spec = spec
    return head


def sketch_head(spec: HeadSpec | str, in_features: int, out_features: int) -> Head:
    """Construct a head on the meta device, where it has shapes and takes no memory.

    A head whose constructor reads values, which meta tensors lack, is constructed on the CPU instead.

    Raises:
        ProjheadsError: If a name, option or width is invalid, or this machine's memory could not hold the head.
    """
    memory, size, tensors = machine_memory(), 0, 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal size, tensors
        tensors += 1
        size += 0 if parameter is None else parameter.numel() * parameter.element_size()
        if size > memory or tensors > MOST_TENSORS:
            taken = f"{size / 1e9:.1f} GB" if size > memory else f"{MOST_TENSORS} parameters"
            raise ProjheadsError(
                f"head {spec}, {in_features} -> {out_features}: takes over {taken}; this machine has "
                f"{memory / 1e9:.1f} GB of memory; use smaller widths or fewer layers"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        with isolated_random_state(torch.Generator()):
            try:
                with torch.device("meta"):
                    return construct_head(spec, in_features, out_features)
            except RuntimeError as error:
                if "meta" not in str(error):
                    raise
            size, tensors = 0, 0
            with torch.device("cpu"):
                return construct_head(spec, in_features, out_features)
    except ProjheadsError:
        raise
    except (RuntimeError, RecursionError, TypeError, ValueError, ArithmeticError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # torch appends its own stack
        raise ProjheadsError(f"head {spec}, {in_features} -> {out_features}: cannot be built ({reason})") from error
    finally:
        hook.remove()


def machine_memory() -> int:
    """Return the bytes of memory of this machine, or of the control group that this process is limited to."""
    total: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(file).read_text(encoding="ascii")))
    return total
