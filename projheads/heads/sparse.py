"""sparse: y = W x [+ b], or y = W_2 act(W_1 x [+ b_1]) [+ b_2], where each row of W or W_1 has ``inputs`` entries.

Compositional sparsity: Galanti et al., 2023, arXiv 2301.12033. The positions are drawn once, from the seed. Only the
entries are stored and trained. They are multiplied as a dense matrix: on one CPU thread, gathering the inputs of each
row takes 1.1 to 90 times as long (768 -> 128 and 384 -> 128; 8, 32 and 128 inputs; 32 and 4096 tokens), and 1.3 to 50
times with the backward pass.

What to expect: fewer parameters than ``linear``, but no faster training, since the entries are multiplied as a dense
matrix. A single layer folds.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from projheads.blocks import ActivationName, make_activation
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.preserve import set_bias
from projheads.registry import register_head


@register_head("sparse")
class Sparse(Head):
    """A matrix whose rows see some of the inputs.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        inputs: Inputs that each row sees; by default a quarter of ``in_features``.
        hidden_features: Width of the hidden layer, whose units are sparse instead of the outputs; none for no hidden
            layer.
        activation: The activation of the hidden layer.
        bias: Whether there are biases.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        inputs: int | None = None,
        hidden_features: int | None = None,
        activation: ActivationName = "identity",
        bias: bool = False,
    ) -> None:
        super().__init__(in_features, out_features)
        inputs = math.ceil(in_features / 4) if inputs is None else inputs
        if not 1 <= inputs <= in_features:
            raise ProjheadsError(f'head "sparse": inputs={inputs} must be from 1 to in_features={in_features}')
        if hidden_features is not None and hidden_features < 1:
            raise ProjheadsError(f'head "sparse": hidden_features={hidden_features} must be at least 1')
        if hidden_features is None and activation != "identity":
            raise ProjheadsError('head "sparse": an activation needs hidden_features')
        self.activation_name = activation
        rows = out_features if hidden_features is None else hidden_features
        self.sparse = _SparseLinear(in_features, rows, inputs, bias=bias)
        self.activation = make_activation(activation)
        self.output = None if hidden_features is None else nn.Linear(hidden_features, out_features, bias=bias)

    def reset_parameters(self) -> None:
        """Reinitialise the entries in +-1/sqrt(inputs) and W_2 with torch's default; the positions stay."""
        self.sparse.reset_parameters()
        if self.output is not None:
            self.output.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.activation(self.sparse(x))
        return y if self.output is None else self.output(y)

    def nonlinear_part(self) -> str | None:
        """Name the activation unless it is the identity."""
        return None if self.activation_name == "identity" else f"the activation {self.activation_name}"

    def output_layers(self) -> list[nn.Module]:
        """Return W_2, or W without a hidden layer."""
        return [self.sparse if self.output is None else self.output]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take over a map whose entries are at the positions of W.

        Raises:
            ProjheadsError: If the map has other entries, there is a hidden layer, or the map has a bias and the head
                does not.
        """
        if self.output is not None:
            raise ProjheadsError("its hidden units see only some of the inputs")
        self.sparse.weight.copy_(weight.gather(1, self.sparse.positions.cpu()))
        if not torch.equal(self.sparse.matrix().cpu(), weight.to(self.sparse.weight.dtype)):
            raise ProjheadsError("the map has entries where its rows see no input")
        set_bias(self.sparse.bias, bias)


class _SparseLinear(nn.Module):
    """A matrix with the same number of entries in each row.

    Attributes:
        weight: (rows, inputs) the entries.
        positions: (rows, inputs) int64, their columns.
    """

    positions: Tensor

    def __init__(self, in_features: int, rows: int, inputs: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(torch.empty(rows, inputs))
        self.bias = nn.Parameter(torch.empty(rows)) if bias else None
        self.register_buffer("positions", torch.rand(rows, in_features).argsort(1)[:, :inputs].sort(1).values)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.weight.shape[1])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def matrix(self) -> Tensor:
        """Return the matrix (rows, in_features)."""
        empty = self.weight.new_zeros(len(self.weight), self.in_features)
        return empty.scatter(1, self.positions, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.matrix(), self.bias)
