"""ffn: x_i = act_i(W_i x_(i-1) [+ b_i]) [+ x_(i-1), or + R_i x_(i-1) where widths differ], y = x_depth.

The deeper FFN of Clavié et al., 2025, arXiv 2510.12327. A layer is exactly one ``Dense`` of PyLate or
sentence-transformers, skip included, so every chain of those can be written, LateOn's among them.
"""

from typing import TypeVar, cast

from torch import Tensor, nn

from projheads.blocks import ActivationName, DenseLayer, check_dropout, hidden_width
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.preserve import preserve_chain
from projheads.registry import register_head

Value = TypeVar("Value")

_MOST_LAYERS = 100  # beyond any projection head; a checkpoint that asks for millions would never end


@register_head("ffn")
class FFN(Head):
    """A chain of dense layers.

    What may differ from layer to layer is given once for the chain, or as a tuple with one value for each layer, the
    last included.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        depth: Number of layers, from 2 to 100.
        hidden_features: Width between layers, one for all or a tuple of depth - 1; that of the input where neither
            this nor ``factor`` is given.
        factor: Width between layers divided by ``in_features``.
        activation: Given once, it stands between layers: the last layer has none.
        bias: Given once, it holds for every layer.
        residual: Given once, it holds for every layer but the last, as in released models.
        dropout: Probability that an element is dropped after an activation between layers, before the skip is added.
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
    ) -> None:
        super().__init__(in_features, out_features)
        if depth < 2:
            raise ProjheadsError(f'head "ffn": depth={depth} is below 2; one layer is the head "linear"')
        if depth > _MOST_LAYERS:
            raise ProjheadsError(f'head "ffn": depth={depth} is above {_MOST_LAYERS}')
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
                )
                for i in range(depth)
            )
        )

    def reset_parameters(self) -> None:
        """Draw every layer anew with torch's default for linear layers."""
        for layer in self._dense_layers():
            layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.layers(x)
        return y

    def nonlinear_part(self) -> str | None:
        """Name the first layer that has an activation."""
        for number, layer in enumerate(self._dense_layers(), start=1):
            if part := layer.nonlinear_part():
                return f"{part} of layer {number}"
        return None

    def output_layers(self) -> list[nn.Linear]:
        """List those of the last layer."""
        return self._dense_layers()[-1].output_layers()

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Split the map evenly over the layers that can carry it."""
        preserve_chain(self._dense_layers(), weight, bias)

    def _dense_layers(self) -> list[DenseLayer]:
        return cast(list[DenseLayer], list(self.layers))


def _per_layer(
    option: str, given: Value | tuple[Value, ...], count: int, *, last: Value | None = None
) -> tuple[Value, ...]:
    """Return a tuple as given, if it has the right length, and otherwise the one value repeated.

    Args:
        option: Name of the option, for the error's line.
        given: One value, or a tuple of them.
        count: How many are needed.
        last: What stands last where one value is given; None for that value.
    """
    if not isinstance(given, tuple):
        return (given,) * count if last is None else (*(given,) * (count - 1), last)
    if len(given) != count:
        raise ProjheadsError(f'head "ffn": {option} has {len(given)} values, {count} are needed')
    return given
