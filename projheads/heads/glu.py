"""glu: y = W_o (act(W_g x) * W_u x).

Gated linear units: Dauphin et al., 2017, arXiv 1612.08083 (sigmoid). Other activations: Shazeer, 2020,
arXiv 2002.05202: ReGLU (relu), GEGLU (gelu), SwiGLU (silu), bilinear (identity). As a projection head: Clavié et al.,
2025, arXiv 2510.12327.

What to expect: a higher cost that does not fold, because the gate depends on the token. Without a bias it cannot start
as a linear map. In the quickstart, ``glu(activation="silu", bias=true)`` is equivalent to ``linear`` within 1 point.
"""

import torch
from torch import Tensor, nn

from projheads.blocks import GateName, check_dropout, hidden_width, make_activation
from projheads.errors import ProjheadsError
from projheads.gains import linear_gain, mean_square
from projheads.head import Head
from projheads.preserve import balanced_factors, carry, set_linear
from projheads.registry import register_head


@register_head("glu")
class GLU(Head):
    """A gated layer followed by a matrix.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        activation: The activation of the gate.
        hidden_features: Width of the gated product; by default the width of the input, unless ``factor`` is given.
        factor: Width of the gated product divided by ``in_features``.
        bias: Whether each of the three matrices has a bias.
        dropout: Dropout probability on the gated product.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: GateName = "silu",
        hidden_features: int | None = None,
        factor: float | None = None,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, out_features)
        check_dropout("glu", dropout)
        width = hidden_width("glu", in_features, hidden_features, factor)
        self.gate = nn.Linear(in_features, width, bias=bias)
        self.up = nn.Linear(in_features, width, bias=bias)
        self.output = nn.Linear(width, out_features, bias=bias)
        self.activation = make_activation(activation)
        self.activation_name = activation
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Reinitialise the three matrices with torch's default for linear layers."""
        for linear in (self.gate, self.up, self.output):
            linear.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.output(self.dropout(self.activation(self.gate(x)) * self.up(x)))
        return y

    def nonlinear_part(self) -> str:
        """Name the product, which is not linear with any activation."""
        return "the product with the gate"

    def output_layers(self) -> list[nn.Linear]:
        """Return W_o."""
        return [self.output]

    def layer_gains(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return the factors of W_u and W_o for the start ``critical``."""
        product, target = self.activation(self.gate(x)) * self.up(x), mean_square(x)
        gain = linear_gain(product, target)
        return [(self.up.weight, gain), (self.output.weight, linear_gain(self.output(gain * product), target))]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Hold the gate at a constant for every input and distribute the map evenly over W_u and W_o."""
        factors = balanced_factors(weight, 2)
        if not factors.rank:
            set_linear(self.output, weight, bias)
            return
        held = 0.0 if self.gate.bias is None else 1.0
        opening = float(self.activation(torch.tensor(held)))
        if opening == 0:
            raise ProjheadsError("its gate is closed at 0 and has no bias to hold it open; set bias=true")
        set_linear(self.gate, torch.zeros_like(self.gate.weight), None)
        if self.gate.bias is not None:
            self.gate.bias.fill_(held)
        reader = carry(self.up, factors.gains[:, None] * factors.right / opening)
        set_linear(self.output, (factors.left * factors.gains) @ reader, bias)
