"""Gains that keep the mean square of states through an activation, by quadrature over Gaussian pre-activations.

He et al., 2015, arXiv 1502.01852 (relu: sqrt 2); Roberts, Yaida and Hanin, 2021, arXiv 2106.10165.
"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from projheads.errors import ProjheadsError

__all__ = ["WithGains", "activation_gain", "mean_square_after"]

_WIDTH, _POINTS = 12.0, 4001  # standard deviations, and points between them
_HALVINGS = 80


@runtime_checkable
class WithGains(Protocol):
    """A head, or a layer inside one, whose weights have gains; see :meth:`projheads.head.Head.layer_gains`."""

    def layer_gains(self, mean_square: float) -> Sequence[tuple[Tensor, float]]:
        """Return factors of weights, for inputs of this mean square."""
        ...


def mean_square_after(activation: nn.Module, variance: float) -> float:
    """Return the mean square of act(z) for z from a normal distribution of mean 0 and this variance."""
    z = torch.linspace(-_WIDTH, _WIDTH, _POINTS, dtype=torch.float64)
    density = torch.exp(-z.square() / 2)
    values = activation(z * math.sqrt(variance)).square()
    return float((density * values).sum() / density.sum())


def activation_gain(activation: nn.Module, mean_square: float, target: float | None = None) -> float:
    """Return the gain g with a mean square ``target`` of act(g z), for z of mean 0 and variance ``mean_square``.

    Args:
        activation: The activation.
        mean_square: Mean square of the layer's input.
        target: Mean square of its output; None for that of the input.

    Raises:
        ProjheadsError: If the activation is bounded, and no gain reaches it.
    """
    target = mean_square if target is None else target
    low, high = -40.0, 40.0  # the logarithm of the variance before the activation
    if mean_square_after(activation, math.exp(high)) < target * (1 + 1e-3):
        raise ProjheadsError(f"no gain gives outputs of {type(activation).__name__} the mean square {target:.3g}")
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_square_after(activation, math.exp(middle)) < target else (low, middle)
    return math.sqrt(math.exp(high) / mean_square)
