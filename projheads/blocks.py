"""Building blocks shared by several heads."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from projheads.errors import ProjheadsError
from projheads.gains import activation_gain, linear_gain, mean_square

__all__ = [
    "ActivationName",
    "DenseLayer",
    "GateName",
    "check_dropout",
    "check_most_layers",
    "hidden_width",
    "idle_channels",
    "make_activation",
]

ActivationName: TypeAlias = Literal["identity", "relu", "gelu", "silu", "tanh"]
GateName: TypeAlias = Literal["sigmoid", "relu", "gelu", "silu", "identity"]

_MOST_LAYERS = 100

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def make_activation(name: ActivationName | GateName) -> nn.Module:
    """Return the activation with this name; gelu is exact (erf), not the tanh approximation."""
    return _ACTIVATIONS[name]()


def hidden_width(head: str, in_features: int, hidden_features: int | None, factor: float | None) -> int:
    """Resolve an intermediate width, given directly or as a factor; the default is the width of the input.

    Args:
        head: Name of the head, for error messages.
        in_features: Width of the input.
        hidden_features: The width, or None.
        factor: The width divided by ``in_features``, or None; the product is rounded to an integer.

    Raises:
        ProjheadsError: If both are given or the width is below 1.
    """
    if hidden_features is not None and factor is not None:
        raise ProjheadsError(f'head "{head}": set hidden_features or factor, not both')
    width = round(in_features * factor) if factor is not None else hidden_features
    width = in_features if width is None else width
    if width < 1:
        raise ProjheadsError(f'head "{head}": the intermediate width is {width}; it must be at least 1')
    return width


def check_dropout(head: str, dropout: float) -> None:
    """Check a dropout probability.

    Raises:
        ProjheadsError: If it is not in [0, 1).
    """
    if not 0 <= dropout < 1:
        raise ProjheadsError(f'head "{head}": dropout={dropout} must be in [0, 1)')


def check_most_layers(head: str, option: str, layers: int) -> None:
    """Check an option that counts layers, so that a model file cannot ask for millions.

    Raises:
        ProjheadsError: If there are more than 100, which is more than any real head has.
    """
    if layers > _MOST_LAYERS:
        raise ProjheadsError(f'head "{head}": {option}={layers} must be at most {_MOST_LAYERS}')


def idle_channels(head: str, idle: float, width: int, activation: str) -> int:
    """Return how many of a layer's channels skip its activation.

    Raises:
        ProjheadsError: If the share is not in [0, 1), or there is no activation to skip.
    """
    if not 0 <= idle < 1:
        raise ProjheadsError(f'head "{head}": idle={idle} must be in [0, 1)')
    if idle and activation == "identity":
        raise ProjheadsError(f'head "{head}": idle={idle} needs an activation, which these channels skip')
    return round(idle * width)


class DenseLayer(nn.Module):
    """One layer with the reference semantics of ``Dense`` in PyLate and sentence-transformers >= 5.7.

    y = dropout(act(W x [+ b])) [+ x, or + R x if the widths differ]: the skip is added after the activation, and R has
    no bias. Parameters are named as in the reference: ``linear.weight``, ``linear.bias``, ``residual.weight``.
    Beyond the reference, the last ``idle`` channels may skip the activation.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: ActivationName | GateName = "identity",
        bias: bool = False,
        residual: bool = False,
        dropout: float = 0.0,
        idle: int = 0,
    ) -> None:
        super().__init__()
        self.idle = idle
        self.in_features = in_features
        self.out_features = out_features
        self.activation_name: ActivationName | GateName = activation
        self.use_residual = residual
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = make_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.residual = (
            nn.Linear(in_features, out_features, bias=False) if residual and in_features != out_features else None
        )

    @classmethod
    def around(
        cls,
        linear: nn.Linear,
        *,
        activation: ActivationName | GateName = "identity",
        residual: bool = False,
        skip: nn.Linear | None = None,
        idle: int = 0,
    ) -> "DenseLayer":
        """Return a layer that has these parameters.

        Args:
            linear: W and b.
            activation: The activation.
            residual: Whether there is a skip.
            skip: R; None for a skip through the identity, or none.
            idle: Number of channels that skip the activation.
        """
        with torch.device("meta"):
            layer = cls(linear.in_features, linear.out_features, activation=activation, residual=residual, idle=idle)
        layer.linear = linear
        layer.residual = skip
        return layer

    @property
    def activation_function(self) -> nn.Module:
        """The activation, under its name in the reference."""
        return self.activation

    def reset_parameters(self) -> None:
        """Reinitialise W, b and R with torch's default for linear layers."""
        for linear in self.output_layers():
            linear.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.linear(x)
        if self.idle:
            active = self.out_features - self.idle
            y = torch.cat([self.activation(y[..., :active]), y[..., active:]], dim=-1)
        else:
            y = self.activation(y)
        y = self.dropout(y)
        if self.use_residual:
            y = y + (x if self.residual is None else self.residual(x))
        return y

    def layer_gains(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return factors of the weights that keep the mean square of the states; for the start ``critical``.

        Args:
            x: (tokens, in_features) a sample of the inputs.
        """
        target, active = mean_square(x), self.out_features - self.idle
        share = target if self.residual is None else target / 2
        weights, before = (self.linear.weight[:active], self.linear.weight[active:]), self.linear(x)
        gain = activation_gain(self.activation, before[:, :active], share)
        branch, gains = self.activation(gain * before[:, :active]), [(weights[0], gain)]
        if self.idle:
            gains.append((weights[1], linear_gain(before[:, active:], share)))
            branch = torch.cat([branch, gains[1][1] * before[:, active:]], dim=-1)
        if self.residual is not None:
            # The gain g of R with a mean square ``target`` of branch + g R x.
            skip = self.residual(x)
            square, product = mean_square(skip), float((branch * skip).mean(dtype=torch.float64))
            root = math.sqrt(product**2 + square * (target - mean_square(branch)))
            gains.append((self.residual.weight, (root - product) / square if square else 1.0))
        return gains

    def nonlinear_part(self) -> str | None:
        """Return the activation's name, or None for the identity."""
        return None if self.activation_name == "identity" else f"the activation {self.activation_name}"

    def output_layers(self) -> list[nn.Linear]:
        """Return W and, if present, R."""
        return [self.linear] if self.residual is None else [self.linear, self.residual]
