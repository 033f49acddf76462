"""hadamard: y = (W_1 * ... * W_N) x [+ b], the matrices multiplied element by element.

A diagonal linear network of N layers, for a matrix: Ma and Fattahi, 2022, arXiv 2207.07612 (Blessing of Depth in Linear
Regression). Depth changes only how the matrix learns: small entries move slowly, large ones fast.

What to expect: the cost of ``linear`` after folding. Only training changes: entries that start small stay small, so the
start matters.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from projheads.blocks import check_most_layers
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.preserve import set_linear
from projheads.registry import register_head

_FLOOR = 1e-3


@register_head("hadamard")
class Hadamard(Head):
    """An element-wise product of matrices.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        depth: Number of matrices, from 2 to 100.
        bias: Whether there is a bias b.
    """

    def __init__(self, in_features: int, out_features: int, *, depth: int = 2, bias: bool = False) -> None:
        super().__init__(in_features, out_features)
        if depth < 2:
            raise ProjheadsError(f'head "hadamard": depth={depth} must be at least 2; use "linear" for one matrix')
        check_most_layers("hadamard", "depth", depth)
        self.first = nn.Linear(in_features, out_features, bias=bias)
        self.others = nn.ParameterList(nn.Parameter(torch.empty(out_features, in_features)) for _ in range(depth - 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the product and b as torch draws a linear layer, and split the product evenly."""
        self.first.reset_parameters()
        with torch.no_grad():
            self._split(self.first.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        product: Tensor = self.first.weight
        for factor in self.others:
            product = product * factor
        return functional.linear(x, product, self.first.bias)

    def nonlinear_part(self) -> None:
        """Return None: the product is a matrix."""

    def output_layers(self) -> list[nn.Linear]:
        """Return W_1 and b, which scale the product."""
        return [self.first]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Split every entry of the map evenly.

        Raises:
            ProjheadsError: If the map has a bias and the head does not.
        """
        self._split(weight)
        set_linear(self.first, self.first.weight, bias)

    def _split(self, weight: Tensor) -> None:
        """Give every matrix the root of the entries, and the first their signs.

        Roots are kept from 0, where no entry would get a gradient; the first matrix makes up for it.
        """
        exact = weight.detach().double()
        roots = exact.abs() ** (1 / (1 + len(self.others)))
        roots = torch.maximum(roots, (_FLOOR * roots.max()).clamp(min=1e-12))
        for factor in self.others:
            factor.copy_(roots)
        self.first.weight.copy_(exact / roots ** len(self.others))
