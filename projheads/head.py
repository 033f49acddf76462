"""What a head is: the one interface that hosts, training, folding and checks rely on."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from projheads.errors import ProjheadsError
from projheads.spec import HeadSpec

__all__ = ["Head", "head_label", "reference_tensor"]


class Head(nn.Module):
    """A projection head: maps every token state by itself, (..., in_features) -> (..., out_features).

    A head file subclasses it, gives a constructor ``(in_features, out_features, *, options...)``, ``forward`` and
    ``reset_parameters``. The other methods say what a head allows beyond that; their defaults claim nothing.

    Attributes:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        spec: The head's name and options; set by :func:`projheads.build.build_head`.
    """

    spec: HeadSpec

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map token states (..., in_features) to token embeddings (..., out_features), before normalisation."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw every parameter anew, as a fresh constructor does."""
        raise NotImplementedError

    def nonlinear_part(self) -> str | None:
        """Name what keeps the head from being one matrix and bias at inference; None if nothing does."""
        return f"{type(self).__name__}, which does not say that it is linear"

    def output_layers(self) -> Sequence[nn.Linear]:
        """List the layers whose outputs, summed, are the head's output: scaling them all scales the embeddings."""
        return ()

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take over a linear map, in place: compute weight x + bias at inference, and stay trainable in every part.

        Called without gradient on a head as its constructor left it. A branch that must add nothing starts with only
        its last layer at zero, so that every parameter moves within two steps; :mod:`projheads.preserve` has the parts.

        Args:
            weight: (out_features, in_features) float64 on the CPU.
            bias: (out_features,) likewise; None for no bias.

        Raises:
            ProjheadsError: If the head can not compute that map; the line says why not.
        """
        raise ProjheadsError(f"{type(self).__name__} does not say how it takes over a linear map")


def reference_tensor(module: nn.Module) -> Tensor:
    """Return the first parameter or buffer: its dtype and device are those that the module computes in."""
    return next(itertools.chain(module.parameters(), module.buffers()))


def head_label(module: nn.Module) -> str:
    """Return what a message calls a head: its spec, or its class where it was not built from one."""
    return f"head {getattr(module, 'spec', type(module).__name__)}"
