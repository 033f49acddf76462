"""linear: y = W x [+ b].

The projection of ColBERT: Khattab and Zaharia, 2020, arXiv 2004.12832. The released models have no bias.
"""

from torch import Tensor, nn

from projheads.head import Head
from projheads.preserve import preserve_chain
from projheads.registry import register_head


@register_head("linear")
class Linear(Head):
    """A single matrix.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        bias: Whether b is there.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = False) -> None:
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(in_features, out_features, bias=bias)

    def reset_parameters(self) -> None:
        """Draw W and b anew with torch's default."""
        self.linear.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.linear(x)
        return y

    def nonlinear_part(self) -> None:
        """Nothing: the head is one matrix."""
        return None

    def output_layers(self) -> list[nn.Linear]:
        """List W."""
        return [self.linear]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take the map as W and b."""
        preserve_chain([self.linear], weight, bias)
