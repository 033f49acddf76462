"""linear: y = W x [+ b].

The projection of ColBERT: Khattab and Zaharia, 2020, arXiv 2004.12832. The released models have no bias. With an
activation, y = act(W x [+ b]), it matches a single ``Dense`` of PyLate or sentence-transformers.

What to expect: the baseline. In the quickstart, five other heads are equivalent to it within 1 point of nDCG@10, at the
lowest cost of all full matrices.
"""

from torch import Tensor, nn

from projheads.blocks import ActivationName, make_activation
from projheads.errors import ProjheadsError
from projheads.gains import activation_gain, mean_square
from projheads.head import Head
from projheads.preserve import preserve_chain
from projheads.registry import register_head


@register_head("linear")
class Linear(Head):
    """A single matrix.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        bias: Whether there is a bias b.
        activation: The activation after the matrix.
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = False, activation: ActivationName = "identity"
    ) -> None:
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = make_activation(activation)
        self.activation_name: ActivationName = activation

    def reset_parameters(self) -> None:
        """Reinitialise W and b with torch's default."""
        self.linear.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.activation(self.linear(x))
        return y

    def nonlinear_part(self) -> str | None:
        """Name the activation unless it is the identity."""
        return None if self.activation_name == "identity" else f"the activation {self.activation_name}"

    def output_layers(self) -> list[nn.Linear]:
        """Return W."""
        return [self.linear]

    def layer_gains(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return the factor of W for the start ``critical``."""
        return [(self.linear.weight, activation_gain(self.activation, self.linear(x), mean_square(x)))]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Set W and b to the map.

        Raises:
            ProjheadsError: If an activation follows, or the map has a bias and the head does not.
        """
        if self.activation_name != "identity":
            raise ProjheadsError(f"the activation {self.activation_name} follows the matrix")
        preserve_chain([self.linear], weight, bias)
