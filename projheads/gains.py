"""Gains that keep the mean square of the states through an activation, measured on states.

For normally distributed states they are those of He et al., 2015, arXiv 1502.01852 (relu: sqrt 2) and of Roberts, Yaida
and Hanin, 2021, arXiv 2106.10165. Token states have heavy tails and a mean, so they are measured on a sample, layer by
layer: Mishkin and Matas, 2015, arXiv 1511.06422.
"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, float64, nn

from projheads.errors import ProjheadsError

__all__ = ["WithGains", "activation_gain", "linear_gain", "mean_square"]

_LARGEST = 32.0  # of the logarithm of a gain
_HALVINGS = 40


@runtime_checkable
class WithGains(Protocol):
    """A head, or a layer inside one, whose weights have gains; see :meth:`projheads.head.Head.layer_gains`."""

    def layer_gains(self, x: Tensor) -> Sequence[tuple[Tensor, float]]:
        """Return factors of weights, for these inputs."""
        ...


def mean_square(x: Tensor) -> float:
    """Return the mean square of all numbers."""
    return float(x.square().mean(dtype=float64))


def linear_gain(y: Tensor, target: float) -> float:
    """Return the gain g with a mean square ``target`` of g y; 1 if y is 0."""
    return math.sqrt(target / found) if (found := mean_square(y)) else 1.0


def activation_gain(activation: nn.Module, y: Tensor, target: float) -> float:
    """Return the gain g with a mean square ``target`` of act(g y); 1 if y is 0.

    Args:
        activation: The activation.
        y: What the layer computes before the activation, for a sample of its inputs.
        target: Mean square of the layer's output.

    Raises:
        ProjheadsError: If the activation is bounded, and no gain reaches it.
    """
    if isinstance(activation, nn.Identity) or not mean_square(y):
        return linear_gain(y, target)
    low, high = -1.0, 1.0  # the logarithm of the gain
    while (reached := mean_square(activation(math.exp(high) * y))) < target and high < _LARGEST:
        high *= 2
    if reached < target * (1 - 1e-3):
        raise ProjheadsError(f"no gain gives outputs of {type(activation).__name__} the mean square {target:.3g}")
    while mean_square(activation(math.exp(low) * y)) > target and low > -_LARGEST:
        low *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_square(activation(math.exp(middle) * y)) < target else (low, middle)
    return math.exp(high)
