"""structured: x_i = act_i(M_i x_(i-1) [+ b_i]), y = x_depth, where each matrix M_i is a product of two cheaper ones.

Wei et al., 2024, arXiv 2406.16450 (structured feedforward layers, self-guided training); Dao et al., 2022,
arXiv 2204.00595 (Monarch matrices). The kinds:

- ``low_rank``: U V, with ``rank`` numbers between the factors.
- ``block_shuffle``: two block-diagonal matrices with a shuffle between them, which gives every block of the second a
  share of every block of the first (a Monarch product).
- ``block_dense``: a block-diagonal matrix to ``rank`` numbers, then a dense matrix.

Widths that ``blocks`` does not divide are padded with zeros.

What to expect: fewer parameters and multiply-adds than a full matrix, not higher scores. Without an activation it is
still one matrix, so it folds; the factors are kept if they cost less.
"""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from projheads.blocks import ActivationName, DenseLayer, check_most_layers, hidden_width, make_activation
from projheads.errors import ProjheadsError
from projheads.gains import activation_gain, linear_gain, mean_square
from projheads.head import Head
from projheads.preserve import balanced_factors, preserve_chain
from projheads.registry import register_head
from projheads.reparameterization import chain_forms

Kind: TypeAlias = Literal["low_rank", "block_shuffle", "block_dense"]


@register_head("structured")
class Structured(Head):
    """A chain of layers with structured matrices.

    With ``guide``, a dense matrix W beside each M trains too: the layer computes a W x + (1 - a) M x, where W starts at
    M and a falls linearly from 1 to 0 over the first ``guide`` of the steps. The trained head has no W.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        kind: The structure of every matrix.
        depth: Number of layers, from 1 to 100.
        rank: Numbers between the two factors, for ``low_rank`` and ``block_dense``; by default ``out_features``.
        blocks: Blocks of a block-diagonal matrix.
        hidden_features: Width between layers; by default the width of the input, unless ``factor`` is given.
        factor: Width between layers divided by ``in_features``.
        activation: The activation between layers.
        bias: Whether layers have a bias.
        guide: Share of the training steps with dense matrices beside the structured ones; 0 for none.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kind: Kind = "low_rank",
        depth: int = 2,
        rank: int | None = None,
        blocks: int = 4,
        hidden_features: int | None = None,
        factor: float | None = None,
        activation: ActivationName = "identity",
        bias: bool = False,
        guide: float = 0.0,
    ) -> None:
        super().__init__(in_features, out_features)
        rank = out_features if rank is None else rank
        for option, value in (("depth", depth), ("rank", rank)):
            if value < 1:
                raise ProjheadsError(f'head "structured": {option}={value} must be at least 1')
        check_most_layers("structured", "depth", depth)
        if not 1 <= blocks <= in_features:
            raise ProjheadsError(f'head "structured": blocks={blocks} must be from 1 to in_features={in_features}')
        if not 0 <= guide <= 1:
            raise ProjheadsError(f'head "structured": guide={guide} must be from 0 to 1')
        width = hidden_width("structured", in_features, hidden_features, factor)
        widths = [in_features, *[width] * (depth - 1), out_features]
        self.kind, self.guide = kind, guide
        self.activation_name: ActivationName = activation
        self.layers = nn.ModuleList(
            _StructuredLinear(widths[i], widths[i + 1], kind, rank, blocks, bias) for i in range(depth)
        )
        self.activation = make_activation(activation)

    def reset_parameters(self) -> None:
        """Reinitialise every factor with torch's default for linear layers."""
        for layer in self._structured():
            layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x)
            if number < len(self.layers):
                x = self.activation(x)
        return x

    def nonlinear_part(self) -> str | None:
        """Name the activation, unless it is the identity or there is only one layer."""
        if self.activation_name == "identity" or len(self.layers) == 1:
            return None
        return f"the activation {self.activation_name} of layer 1"

    def output_layers(self) -> list[nn.Module]:
        """Return the second factor of the last layer."""
        return [self._structured()[-1].second]

    def equal_forms(self) -> list[Head]:
        """Return the chain with its matrices multiplied out."""
        layers: list[DenseLayer] = []
        for number, layer in enumerate(self._structured(), start=1):
            factors = layer.dense_factors()
            activation: ActivationName = "identity" if number == len(self.layers) else self.activation_name
            layers += [DenseLayer.around(factor) for factor in factors[:-1]]
            layers.append(DenseLayer.around(factors[-1], activation=activation))
        return chain_forms(layers)

    def layer_gains(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return the factor of the second factor of every matrix for the start ``critical``."""
        target, gains = mean_square(x), []
        for number, layer in enumerate(self._structured(), start=1):
            y, last = layer(x), number == len(self.layers)
            gain = linear_gain(y, target) if last else activation_gain(self.activation, y, target)
            gains += [(weight, gain) for weight in layer.second_weights()]
            x = self.activation(gain * y)
        return gains

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Distribute the map over the factors.

        Raises:
            ProjheadsError: If a matrix is block-diagonal, or as for ``ffn``.
        """
        if self.kind != "low_rank":
            raise ProjheadsError(f"a {self.kind} matrix cannot hold every map")
        rank = balanced_factors(weight, 1).rank
        chain: list[DenseLayer] = []
        for number, layer in enumerate(self._structured(), start=1):
            first, second = layer.first, layer.second
            if isinstance(first, nn.Linear) and isinstance(second, nn.Linear):
                if first.out_features < rank:
                    raise ProjheadsError(f"its rank is {first.out_features}; carrying the map needs {rank}")
                activation: ActivationName = "identity" if number == len(self.layers) else self.activation_name
                chain += [DenseLayer.around(first), DenseLayer.around(second, activation=activation)]
        preserve_chain(chain, weight, bias)

    def training_progress(self, done: float) -> None:
        """Add the dense matrices at the start of training, weigh them, and remove them at its end."""
        for layer in self._structured() if self.guide else []:
            layer.guide(None if done >= 1 else max(0.0, 1 - done / self.guide))

    def _structured(self) -> list["_StructuredLinear"]:
        return [layer for layer in self.layers if isinstance(layer, _StructuredLinear)]


class _StructuredLinear(nn.Module):
    """M x [+ b], beside which a dense matrix may train."""

    def __init__(self, in_features: int, out_features: int, kind: Kind, rank: int, blocks: int, bias: bool) -> None:
        super().__init__()
        self.in_features = in_features
        self.first: nn.Module
        self.second: nn.Module
        middle = min(in_features, out_features) if kind == "block_shuffle" else rank
        blocks = min(blocks, middle, out_features)
        self.shuffled = blocks if kind == "block_shuffle" else None
        if kind == "low_rank":
            self.first = nn.Linear(in_features, middle, bias=False)
        else:
            middle = blocks * math.ceil(middle / blocks)
            self.first = BlockDiagonal(in_features, middle, blocks)
        if kind == "block_shuffle":
            self.second = BlockDiagonal(middle, out_features, blocks, bias=bias)
        else:
            self.second = nn.Linear(middle, out_features, bias=bias)
        self.dense: nn.Linear | None = None
        self.share: Tensor | None = None
        self.guided = False

    def reset_parameters(self) -> None:
        for factor in (self.first, self.second):
            if isinstance(factor, nn.Linear | BlockDiagonal):
                factor.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._product(x)
        if self.dense is None or self.share is None or not self.guided:
            return y
        guided: Tensor = self.share * self.dense(x) + (1 - self.share) * y
        return guided

    def dense_factors(self) -> list[nn.Linear]:
        """Return linear layers with the same output: the two factors if they are dense, otherwise their product."""
        if isinstance(self.first, nn.Linear) and isinstance(self.second, nn.Linear):
            return [self.first, self.second]
        return [self._multiplied()]

    def second_weights(self) -> list[Tensor]:
        """Return the weights of the second factor."""
        return [parameter for parameter in self.second.parameters() if parameter.ndim > 1]

    def guide(self, share: float | None) -> None:
        """Set the share of the dense matrix, which is made at the first call; None removes it."""
        if share is None:
            self.dense = self.share = None
            self.guided = False
            return
        if self.dense is None:
            self.dense = self._multiplied()
        weight = self.dense.weight
        self.share = torch.full((), share, dtype=weight.dtype, device=weight.device)
        self.guided = share > 0

    def _multiplied(self) -> nn.Linear:
        """Return M and b as a dense layer."""
        with torch.no_grad():
            weight = next(self.parameters())
            bias = self._product(weight.new_zeros(self.in_features))
            matrix = (self._product(torch.eye(self.in_features).to(weight)) - bias).T
            linear = nn.Linear(self.in_features, len(bias), bias=bool(bias.any()), device="meta")
            linear.weight = nn.Parameter(matrix.contiguous())
            if bias.any():
                linear.bias = nn.Parameter(bias)
        return linear

    def _product(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        if self.shuffled is not None:
            y = y.reshape(*y.shape[:-1], self.shuffled, y.shape[-1] // self.shuffled).transpose(-1, -2).flatten(-2)
        y = self.second(y)
        return y


class BlockDiagonal(nn.Module):
    """A block-diagonal matrix, with a bias or without; it pads the input with zeros and drops surplus outputs.

    Attributes:
        weight: (blocks, outputs of a block, inputs of a block).
    """

    def __init__(self, in_features: int, out_features: int, blocks: int, *, bias: bool = False) -> None:
        super().__init__()
        self.out_features, self.blocks = out_features, blocks
        self.padding = -in_features % blocks
        inputs, outputs = math.ceil(in_features / blocks), math.ceil(out_features / blocks)
        self.weight = nn.Parameter(torch.empty(blocks, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw uniformly in +-1/sqrt(inputs of a block), as torch draws a linear layer."""
        bound = 1 / math.sqrt(self.weight.shape[-1])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        padded = functional.pad(x, (0, self.padding))
        parts = padded.reshape(-1, self.blocks, self.weight.shape[-1]).transpose(0, 1)
        products = torch.bmm(parts, self.weight.transpose(1, 2)).transpose(0, 1)
        y = products.reshape(*x.shape[:-1], self.blocks * self.weight.shape[1])[..., : self.out_features]
        return y if self.bias is None else y + self.bias
