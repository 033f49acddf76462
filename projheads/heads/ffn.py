"""ffn: x_i = act_i(W_i x_(i-1) [+ b_i]) [+ x_(i-1), or + R_i x_(i-1) if the widths differ], y = x_depth.

The deeper FFN of Clavié et al., 2025, arXiv 2510.12327. A layer is exactly one ``Dense`` of PyLate or
sentence-transformers, including its skip, so this head can express any chain of those layers, such as LateOn's.

What to expect: without activations, the cost of ``linear`` after folding, and a best learning rate that is lower,
because a product of matrices moves faster than a single one. With an activation it costs more and does not fold. In the
quickstart, four variants of two layers are equivalent to ``linear`` within 1 point.
"""

from typing import TypeVar, cast

from torch import Tensor, nn

from projheads.blocks import ActivationName, DenseLayer, check_dropout, check_most_layers, hidden_width, idle_channels
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.preserve import preserve_chain
from projheads.registry import register_head
from projheads.reparameterization import chain_forms

Value = TypeVar("Value")


@register_head("ffn")
class FFN(Head):
    """A chain of dense layers.

    An option that may differ between layers takes one value for all layers, or a tuple with one value per layer,
    including the last.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        depth: Number of layers, from 2 to 100.
        hidden_features: Width between layers, one for all or a tuple of depth - 1; by default the width of the input,
            unless ``factor`` is given.
        factor: Width between layers divided by ``in_features``.
        activation: A single value applies between layers; the last layer then has no activation.
        bias: Whether layers have a bias; a single value applies to every layer.
        residual: Whether layers have a skip; a single value applies to all but the last, as in released models.
        dropout: Dropout probability after each activation between layers, before the skip is added.
        idle: Share of the channels between layers that skip the activation (RePaViT, 2025, arXiv 2505.21847); after
            training, ``reparameterize`` merges them into one matrix.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        depth: int = 2,
        hidden_features: int | tuple[int, ...] | None = None,
        factor: float | None = None,
        activation: ActivationName | tuple[ActivationName, ...] = "identity",
        bias: bool | tuple[bool, ...] = False,
        residual: bool | tuple[bool, ...] = False,
        dropout: float = 0.0,
        idle: float = 0.0,
    ) -> None:
        super().__init__(in_features, out_features)
        if depth < 2:
            raise ProjheadsError(f'head "ffn": depth={depth} must be at least 2; use "linear" for a single layer')
        check_most_layers("ffn", "depth", depth)
        check_dropout("ffn", dropout)
        hidden = _per_layer("hidden_features", hidden_features, depth - 1)
        activations: tuple[ActivationName, ...] = _per_layer("activation", activation, depth, last="identity")
        biases = _per_layer("bias", bias, depth)
        residuals = _per_layer("residual", residual, depth, last=False)
        widths = [in_features, *(hidden_width("ffn", in_features, width, factor) for width in hidden), out_features]
        self.layers = nn.Sequential(
            *(
                DenseLayer(
                    widths[i],
                    widths[i + 1],
                    activation=activations[i],
                    bias=biases[i],
                    residual=residuals[i],
                    dropout=dropout if i < depth - 1 else 0.0,
                    idle=idle_channels("ffn", idle, widths[i + 1], activations[i]) if i < depth - 1 else 0,
                )
                for i in range(depth)
            )
        )

    def reset_parameters(self) -> None:
        """Reinitialise every layer with torch's default for linear layers."""
        for layer in self.dense_layers():
            layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.layers(x)
        return y

    def nonlinear_part(self) -> str | None:
        """Name the first activation and its layer, or return None."""
        for number, layer in enumerate(self.dense_layers(), start=1):
            if part := layer.nonlinear_part():
                return f"{part} of layer {number}"
        return None

    def output_layers(self) -> list[nn.Linear]:
        """Return those of the last layer."""
        return self.dense_layers()[-1].output_layers()

    def equal_forms(self) -> list[Head]:
        """Return the chain with its neighbours multiplied, and with idle channels merged into a skip."""
        return chain_forms(self.dense_layers())

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Distribute the map evenly over the layers that can carry it."""
        preserve_chain(self.dense_layers(), weight, bias)

    def dense_layers(self) -> list[DenseLayer]:
        """Return the layers in order."""
        return cast(list[DenseLayer], list(self.layers))


def _per_layer(
    option: str, given: Value | tuple[Value, ...], count: int, *, last: Value | None = None
) -> tuple[Value, ...]:
    """Return one value per layer: a tuple as given, or a single value repeated.

    Args:
        option: Name of the option, for error messages.
        given: One value or a tuple.
        count: Number of values needed.
        last: Replaces the last value if a single one is given; None keeps it.
    """
    if not isinstance(given, tuple):
        return (given,) * count if last is None else (*(given,) * (count - 1), last)
    if len(given) != count:
        raise ProjheadsError(f'head "ffn": {option} has {len(given)} values; it needs {count}')
    return given
