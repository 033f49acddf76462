"""How heads take over a linear map exactly: the building blocks of their ``preserve`` methods.

A map W of rank r is split by its singular value decomposition into one factor for each layer that carries it, all with
the same singular values (balanced, as in deep linear networks: Saxe et al., 2014, arXiv 1312.6120). Between two layers
the r numbers that matter, the code, lie in r directions of the wider intermediate. The other directions keep their
drawn values, which the next layer does not read at first, so all of them receive gradients later. How a layer carries
the code depends on its form:

- Without an activation, its matrix carries it.
- With a skip through a matrix, that matrix carries it, and the branch starts at zero.
- With an identity skip, the code passes through, and the branch starts at zero.
- With enough channels that skip the activation, these carry it.
- With only relu, gelu or silu, pairs of units carry it: act(z) - act(-z) = z holds exactly for all three.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError

__all__ = ["Factors", "balanced_factors", "carry", "preserve_chain", "set_bias", "set_linear"]

_RANK_TOLERANCE = 1e-6
_IN_PAIRS = ("relu", "gelu", "silu")
_NO_GRADIENT_AT_ZERO = "relu"


@dataclass(frozen=True)
class Factors:
    """W = left diag(gains)^n right, for n layers of equal gains; in float64 on the CPU.

    Attributes:
        left: (out_features, r), orthonormal columns.
        gains: (r,) factors by which each layer multiplies the code.
        right: (r, in_features), orthonormal rows.
    """

    left: Tensor
    gains: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """Length of the code; 0 for the zero map."""
        return len(self.gains)


def balanced_factors(weight: Tensor, layers: int) -> Factors:
    """Split a matrix (out_features, in_features) among layers that share its singular values evenly."""
    left, values, right = torch.linalg.svd(weight.detach().cpu().double(), full_matrices=False)
    rank = int((values > _RANK_TOLERANCE * values[0]).sum())
    return Factors(left[:, :rank], values[:rank] ** (1 / layers), right[:rank])


def carry(linear: nn.Linear, rows: Tensor, where: str = "its hidden layer", first: int = 0) -> Tensor:
    """Make a layer without activation carry a code to the next one.

    Args:
        linear: The layer; it keeps its drawn weights in the directions that do not hold the code.
        rows: (r, in_features) matrix that computes the code from the layer's input.
        where: What an error calls the layer.
        first: The first of the channels that carry it.

    Returns:
        The reader (r, width), which recovers the code from the layer's output.

    Raises:
        ProjheadsError: If the layer is narrower than the code.
    """
    _require_width(linear, len(rows), where)
    drawn = linear.weight[first:].detach().cpu().double()
    basis = _orthonormal(drawn, len(rows))
    linear.weight[first:].copy_(basis @ rows + drawn - basis @ (basis.T @ drawn))
    if linear.bias is not None:
        bias = linear.bias[first:].detach().cpu().double()
        linear.bias[first:].copy_(bias - basis @ (basis.T @ bias))
    return torch.cat([basis.new_zeros(len(rows), first), basis.T], dim=1)


def set_linear(linear: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    """Set a layer's matrix (out, in) and bias (out,); None for no bias or a bias of 0.

    Raises:
        ProjheadsError: If there is a bias and the layer has none.
    """
    linear.weight.copy_(weight)
    set_bias(linear.bias, bias)


def set_bias(own: Tensor | None, bias: Tensor | None) -> None:
    """Set a layer's bias (out,), None if it has none; see :func:`set_linear`."""
    if own is not None:
        own.zero_() if bias is None else own.copy_(bias)
    elif bias is not None and bool(bias.any()):
        raise ProjheadsError("the map has a bias, but the last layer has none")


def preserve_chain(layers: Sequence[DenseLayer | nn.Linear], weight: Tensor, bias: Tensor | None) -> None:
    """Make a chain of layers compute weight x + bias at inference, in place, with every part still trainable.

    Args:
        layers: The chain, as its constructor left it.
        weight: (out_features, in_features).
        bias: (out_features,) or None.

    Raises:
        ProjheadsError: If the chain cannot; the message says which layer prevents it, and why.
    """
    steps = [_Step.of(layer, number) for number, layer in enumerate(layers, start=1)]
    carriers = [step for step in steps if step.skip != "identity"] or steps[-1:]
    factors = balanced_factors(weight, len(carriers))
    reader = factors.right
    for step in steps[: carriers[-1].number - 1]:
        if factors.rank:
            reader = step.pass_on(factors.gains[:, None] * reader) if step in carriers else step.pass_by(reader)
        else:
            reader = reader.new_zeros(0, step.linear.out_features)
    carriers[-1].end((factors.left * factors.gains) @ reader, bias)
    for step in steps[carriers[-1].number :]:
        step.pass_by(reader)


@dataclass(frozen=True)
class _Step:
    """One layer of a chain, and how it can carry a code; ``residual`` is the matrix in its skip."""

    number: int
    linear: nn.Linear
    activation: str
    skip: Literal["none", "identity", "matrix"]
    residual: nn.Linear | None
    idle: int = 0

    @classmethod
    def of(cls, layer: DenseLayer | nn.Linear, number: int) -> "_Step":
        if isinstance(layer, nn.Linear):
            return cls(number, layer, "identity", "none", None)
        if not layer.use_residual:
            return cls(number, layer.linear, layer.activation_name, "none", None, layer.idle)
        skip: Literal["identity", "matrix"] = "identity" if layer.residual is None else "matrix"
        return cls(number, layer.linear, layer.activation_name, skip, layer.residual, layer.idle)

    @property
    def name(self) -> str:
        return f"layer {self.number}"

    def pass_on(self, rows: Tensor) -> Tensor:
        """Carry the code that rows (r, in) compute from the input; return the reader of the output."""
        if self.activation == "identity" and self.residual is None:
            return carry(self.linear, rows, self.name)
        if self.residual is not None and self.activation != _NO_GRADIENT_AT_ZERO:
            self._silence()
            return carry(self.residual, rows, self.name)
        if self.residual is None and self.idle >= len(rows):
            return carry(self.linear, rows, self.name, self.linear.out_features - self.idle)
        if self.activation not in _IN_PAIRS:
            raise ProjheadsError(
                f"the activation {self.activation} of {self.name} has no skip around it and does not pass a linear map"
            )
        return self._carry_in_pairs(rows)

    def pass_by(self, reader: Tensor) -> Tensor:
        """Pass the code through the skip; the branch starts at zero."""
        self._silence()
        return reader

    def end(self, matrix: Tensor, bias: Tensor | None) -> None:
        """Compute the chain's output from the layer's input: a matrix (out_features, in) and a bias."""
        if self.skip == "identity":
            self._require_identity("is added to its own input, so it starts from the identity")
            set_linear(self.linear, matrix - torch.eye(len(matrix), dtype=matrix.dtype), bias)
        elif self.residual is not None or not matrix.any():
            # The linear part starts at zero: any activation that is 0 at 0 will do, but none may follow a bias.
            if bias is not None and bool(bias.any()):
                self._require_identity("comes between its bias and the output")
            self._silence()
            set_linear(self.linear, torch.zeros_like(self.linear.weight), bias)
            if self.residual is not None:
                self.residual.weight.copy_(matrix)
        else:
            self._require_identity("comes after the last matrix")
            set_linear(self.linear, matrix, bias)

    def _carry_in_pairs(self, rows: Tensor) -> Tensor:
        rank, width = len(rows), self.linear.out_features
        _require_width(self.linear, 2 * rank, self.name, f" in pairs of {self.activation} units", self.idle)
        drawn = self.linear.weight.detach().cpu().double()
        turn = _orthonormal(drawn[:rank], rank)
        self.linear.weight.copy_(torch.cat([turn @ rows, -turn @ rows, drawn[2 * rank :]]))
        if self.linear.bias is not None:
            self.linear.bias[: 2 * rank] = 0
        reader = torch.cat([turn.T, -turn.T, turn.new_zeros(rank, width - 2 * rank)], dim=1)
        if self.residual is not None:
            skipped = self.residual.weight.detach().cpu().double()
            self.residual.weight.copy_(skipped - reader.T @ (reader @ skipped) / 2)
        return reader

    def _silence(self) -> None:
        if self.activation == _NO_GRADIENT_AT_ZERO:
            raise ProjheadsError(
                f"the branch of {self.name} would start at zero, where {self.activation} has no gradient"
            )
        set_linear(self.linear, torch.zeros_like(self.linear.weight), None)

    def _require_identity(self, why_not: str) -> None:
        if self.activation != "identity":
            raise ProjheadsError(f"the activation {self.activation} of {self.name} {why_not}")


def _require_width(linear: nn.Linear, needed: int, where: str, how: str = "", idle: int = 0) -> None:
    width = linear.out_features - idle
    if width < needed:
        raise ProjheadsError(f"{where} is {width} wide; carrying the map{how} needs {needed}")


def _orthonormal(drawn: Tensor, rank: int) -> Tensor:
    """Return orthonormal columns (rows of drawn, rank) made from ``drawn``, which has at least rank columns.

    Signs are those that make QR unique, a positive diagonal of R, so that they do not depend on the library.
    """
    basis, triangle = torch.linalg.qr(drawn[:, :rank])
    return torch.where(triangle.diagonal() < 0, -basis, basis)
