"""The branches of a head: skip and inner part of a residual, the gate of a gated layer, a layer of a chain.

A branch is off if its output is taken out of the sum that it is a part of. A gate is off if it is held at its mean over
the sampled tokens; a layer of a chain without a skip, if it passes on its input, which takes equal widths.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from projheads.blocks import DenseLayer
from projheads.heads.glu import GLU
from projheads.heads.residual import Residual

__all__ = ["Branch", "branches_of", "contribution"]


@dataclass(frozen=True)
class Branch:
    """A branch of a head.

    Attributes:
        name: What readers call it.
        module: The module whose output it contributes to.
        without: Returns that output without the branch, from the module's input and output.
    """

    name: str
    module: nn.Module
    without: Callable[[Tensor, Tensor], Tensor]

    @contextmanager
    def off(self) -> Iterator[None]:
        """Turn the branch off for the block."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            return self.without(arguments[0], output)

        handle = self.module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def branches_of(head: nn.Module, states: Tensor) -> list[Branch]:
    """List the branches of a head; ``states`` (n, in_features) are the tokens over which gates are averaged."""
    found: list[Branch] = []
    for path, module in head.named_modules():
        if isinstance(module, Residual):
            found += _sum(_name(path, ""), module, module.skip)
        elif isinstance(module, DenseLayer) and module.use_residual:
            found += _sum(_name(path, ""), module, module.residual)
        elif isinstance(module, DenseLayer) and module.in_features == module.out_features:
            found.append(Branch(_name(path, "layer"), module, lambda x, y: x))
        elif isinstance(module, GLU):
            found.append(Branch(_name(path, "gate"), module.activation, _held(head, module.activation, states)))
    return found


def contribution(head: nn.Module, branch: Branch, states: Tensor) -> tuple[float, float]:
    """Return the share of the norms that a branch has in its sum, and its mean cosine with the sum."""
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        seen.append((arguments[0], output))

    handle = branch.module.register_forward_hook(keep)
    try:
        with torch.no_grad():
            head(states)
    finally:
        handle.remove()
    inputs, output = seen[0]
    with torch.no_grad():
        rest = branch.without(inputs, output).double()
    part = output.double() - rest
    norm, other = part.norm(dim=-1).mean(), rest.norm(dim=-1).mean()
    share = float(norm / (norm + other)) if norm + other > 0 else 0.0
    return share, float(functional.cosine_similarity(part, output.double(), dim=-1).mean())


def _sum(name: str, module: nn.Module, skip: nn.Module | None) -> list[Branch]:
    """Return the two branches of y = F(x) + S(x); ``skip`` is S, None for the identity."""

    def skipped(x: Tensor) -> Tensor:
        made: Tensor = x if skip is None else skip(x)
        return made

    return [
        Branch(f"{name}inner", module, lambda x, y: skipped(x).to(y.dtype)),
        Branch(f"{name}skip", module, lambda x, y: y - skipped(x)),
    ]


def _held(head: nn.Module, activation: nn.Module, states: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a gate at its mean over the sampled tokens."""
    opened: list[Tensor] = []
    handle = activation.register_forward_hook(lambda module, arguments, output: opened.append(output))
    try:
        with torch.no_grad():
            head(states)
    finally:
        handle.remove()
    mean = opened[0].mean(dim=0)
    return lambda x, y: mean.to(y.dtype).expand_as(y)


def _name(path: str, kind: str) -> str:
    """Name a branch after its place: ``layers.0`` is layer 1, and the head itself needs no name."""
    last = path.rpartition(".")[2]
    place = f"layer {int(last) + 1}" if last.isdigit() else last
    if kind == "layer":
        return place or kind
    return f"{place} {kind}" if place and kind else f"{place} " if place else kind
