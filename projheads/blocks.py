"""The parts that several heads are made of."""

from typing import Literal, TypeAlias

from torch import Tensor, nn

from projheads.errors import ProjheadsError

__all__ = ["ActivationName", "DenseLayer", "GateName", "check_dropout", "hidden_width", "make_activation"]

ActivationName: TypeAlias = Literal["identity", "relu", "gelu", "silu", "tanh"]
GateName: TypeAlias = Literal["sigmoid", "relu", "gelu", "silu", "identity"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def make_activation(name: ActivationName | GateName) -> nn.Module:
    """Make the element-wise function of that name; gelu is the exact one, with erf."""
    return _ACTIVATIONS[name]()


def hidden_width(head: str, in_features: int, hidden_features: int | None, factor: float | None) -> int:
    """Choose an intermediate width: given, a factor of the input's, or as wide as the input.

    Args:
        head: Name of the head, for the error's line.
        in_features: Width of the input.
        hidden_features: The width itself, or None.
        factor: The width divided by ``in_features``, or None; the product is rounded to a whole number.

    Raises:
        ProjheadsError: If both are given or the width is below 1.
    """
    if hidden_features is not None and factor is not None:
        raise ProjheadsError(f'head "{head}": give hidden_features or factor, not both')
    width = round(in_features * factor) if factor is not None else hidden_features
    width = in_features if width is None else width
    if width < 1:
        raise ProjheadsError(f'head "{head}": an intermediate width of {width} is below 1')
    return width


def check_dropout(head: str, dropout: float) -> None:
    """Check that a probability of dropping is in [0, 1).

    Raises:
        ProjheadsError: If it is not.
    """
    if not 0 <= dropout < 1:
        raise ProjheadsError(f'head "{head}": dropout={dropout} is not in [0, 1)')


class DenseLayer(nn.Module):
    """One layer with the reference semantics of ``Dense`` in PyLate and sentence-transformers >= 5.7.

    y = dropout(act(W x [+ b])) [+ x, or + R x where the widths differ]: the skip is added after the activation, R has
    no bias. Parameters have the reference's names: ``linear.weight``, ``linear.bias``, ``residual.weight``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: ActivationName = "identity",
        bias: bool = False,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.activation_name = activation
        self.use_residual = residual
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = make_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.residual = (
            nn.Linear(in_features, out_features, bias=False) if residual and in_features != out_features else None
        )

    @property
    def activation_function(self) -> nn.Module:
        """The activation, by the reference's name."""
        return self.activation

    def reset_parameters(self) -> None:
        """Draw W, b and R anew with torch's default for linear layers."""
        for linear in self.output_layers():
            linear.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.dropout(self.activation(self.linear(x)))
        if self.use_residual:
            y = y + (x if self.residual is None else self.residual(x))
        return y

    def nonlinear_part(self) -> str | None:
        """Name the activation unless it is the identity."""
        return None if self.activation_name == "identity" else f"the activation {self.activation_name}"

    def output_layers(self) -> list[nn.Linear]:
        """List W and, where there is one, R."""
        return [self.linear] if self.residual is None else [self.linear, self.residual]
