"""polynomial: y = L x [+ b] + sum over d = 2..degree of O_d (P_1 x * ... * P_d x).

Multiplicative layers: Ben-Shaul et al., 2023, arXiv 2301.04605. Degree 2 is a linear layer plus
``glu(activation="identity")``.

What to expect: a higher cost that does not fold. The linear part lets it take over a trained map; the products then
only add to it.
"""

import torch
from torch import Tensor, nn

from projheads.blocks import check_most_layers, hidden_width
from projheads.errors import ProjheadsError
from projheads.gains import linear_gain, mean_square
from projheads.head import Head
from projheads.preserve import set_linear
from projheads.registry import register_head


@register_head("polynomial")
class Polynomial(Head):
    """Products of linear maps of the token, summed over degrees.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        degree: Most factors of a product, from 2 to 100.
        hidden_features: Width of the products; by default the width of the input, unless ``factor`` is given.
        factor: Width of the products divided by ``in_features``.
        bias: Whether there is a bias b.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        degree: int = 2,
        hidden_features: int | None = None,
        factor: float | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__(in_features, out_features)
        if degree < 2:
            raise ProjheadsError(f'head "polynomial": degree={degree} must be at least 2; use "linear" for degree 1')
        check_most_layers("polynomial", "degree", degree)
        width = hidden_width("polynomial", in_features, hidden_features, factor)
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.factors = nn.ModuleList(nn.Linear(in_features, width, bias=False) for _ in range(degree))
        self.outputs = nn.ModuleList(nn.Linear(width, out_features, bias=False) for _ in range(degree - 1))

    def reset_parameters(self) -> None:
        """Reinitialise every matrix with torch's default for linear layers."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.linear(x)
        product: Tensor = self.factors[0](x)
        for factor, output in zip(list(self.factors)[1:], self.outputs, strict=True):
            product = product * factor(x)
            y = y + output(product)
        return y

    def nonlinear_part(self) -> str:
        """Name the products."""
        return "the products of linear maps"

    def output_layers(self) -> list[nn.Linear]:
        """Return L and every O_d."""
        return [self.linear, *(output for output in self.outputs if isinstance(output, nn.Linear))]

    def layer_gains(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return factors for the start ``critical``: of the products, and of L and every O_d, with equal shares."""
        first, *others = [factor for factor in self.factors if isinstance(factor, nn.Linear)]
        target, product, parts, gains = mean_square(x), first(x), [self.linear(x)], []
        for factor, output in zip(others, self.outputs, strict=True):
            product = product * factor(x)
            gain = linear_gain(product, target)
            gains.append((factor.weight, gain))
            product = gain * product
            parts.append(output(product))
        share = [linear_gain(part, target / len(parts)) for part in parts]
        whole = linear_gain(torch.stack([g * part for g, part in zip(share, parts, strict=True)]).sum(0), target)
        return gains + [(layer.weight, whole * g) for layer, g in zip(self.output_layers(), share, strict=True)]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Set L to the map and every O_d to zero."""
        set_linear(self.linear, weight, bias)
        for output in self.output_layers()[1:]:
            output.weight.zero_()
