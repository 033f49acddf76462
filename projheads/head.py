"""What a head is: the one interface that hosts, training, folding and checks rely on."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from projheads.spec import HeadSpec

__all__ = ["Head", "head_label", "reference_tensor"]


class Head(nn.Module):
    """A projection head: maps every token state by itself, (..., in_features) -> (..., out_features).

    A head file subclasses it, gives a constructor ``(in_features, out_features, *, options...)``, ``forward`` and
    ``reset_parameters``. The other two methods say what a head allows beyond that; their defaults claim nothing.

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


def reference_tensor(module: nn.Module) -> Tensor:
    """Return the first parameter or buffer: its dtype and device are those that the module computes in."""
    return next(itertools.chain(module.parameters(), module.buffers()))


def head_label(module: nn.Module) -> str:
    """Return what a message calls a head: its spec, or its class where it was not built from one."""
    return f"head {getattr(module, 'spec', type(module).__name__)}"
