"""How heads take over a linear map exactly: the parts that their ``preserve`` methods are made of.

A map W of rank r is split by its singular value decomposition into as many factors as there are layers to carry it,
each with the same singular values (balanced, as deep linear networks have them: Saxe et al., 2014, arXiv 1312.6120).
Between two layers the r numbers that matter, the code, lie in some r directions of the wider intermediate; the other
directions keep what the constructor drew and the next layer does not read them, so none of them is without gradient
for good. How a layer carries the code depends on its form:

- Without an activation its matrix does.
- With a skip through a matrix, that matrix does and the branch starts at zero.
- With a skip that is the identity, the code passes, and the branch starts at zero.
- With relu, gelu or silu alone, a pair of units does: act(z) - act(-z) = z holds exactly for each of the three.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError

__all__ = ["Factors", "balanced_factors", "carry", "preserve_chain", "set_linear"]

_RANK_TOLERANCE = 1e-6
_IN_PAIRS = ("relu", "gelu", "silu")
_NO_GRADIENT_AT_ZERO = "relu"


@dataclass(frozen=True)
class Factors:
    """W = left diag(gains)^n right, for n layers of equal gains; in float64 on the CPU.

    Attributes:
        left: (out_features, r), orthonormal columns.
        gains: (r,) what each layer multiplies the code by.
        right: (r, in_features), orthonormal rows.
    """

    left: Tensor
    gains: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """Numbers in the code; 0 for the map to zero."""
        return len(self.gains)


def balanced_factors(weight: Tensor, layers: int) -> Factors:
    """Split a matrix (out_features, in_features) for a number of layers that share its singular values evenly."""
    left, values, right = torch.linalg.svd(weight.detach().cpu().double(), full_matrices=False)
    rank = int((values > _RANK_TOLERANCE * values[0]).sum())
    return Factors(left[:, :rank], values[:rank] ** (1 / layers), right[:rank])


def carry(linear: nn.Linear, rows: Tensor, where: str = "its hidden layer") -> Tensor:
    """Let a layer without activation carry a code to the next one.

    Args:
        linear: The layer; what it drew stays in the directions that do not hold the code.
        rows: (r, in_features) what makes the code from the layer's input.
        where: What an error calls the layer.

    Returns:
        The reader (r, width): it gives the code when it is applied to the layer's output.

    Raises:
        ProjheadsError: If the layer is narrower than the code.
    """
    _require_width(linear, len(rows), where)
    drawn = linear.weight.detach().cpu().double()
    basis = _orthonormal(drawn, len(rows))
    linear.weight.copy_(basis @ rows + drawn - basis @ (basis.T @ drawn))
    if linear.bias is not None:
        bias = linear.bias.detach().cpu().double()
        linear.bias.copy_(bias - basis @ (basis.T @ bias))
    return basis.T


def set_linear(linear: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    """Give a layer its matrix (out, in) and bias (out,); None for no bias or a bias of 0.

    Raises:
        ProjheadsError: If there is a bias and the layer has none.
    """
    linear.weight.copy_(weight)
    if linear.bias is not None:
        linear.bias.zero_() if bias is None else linear.bias.copy_(bias)
    elif bias is not None and bool(bias.any()):
        raise ProjheadsError("the map has a bias, and its last layer has none to hold it")


def preserve_chain(layers: Sequence[DenseLayer | nn.Linear], weight: Tensor, bias: Tensor | None) -> None:
    """Let a chain of layers compute weight x + bias at inference, in place, and stay trainable in every part.

    Args:
        layers: The chain, as drawn by its constructor.
        weight: (out_features, in_features).
        bias: (out_features,) or None.

    Raises:
        ProjheadsError: If the chain can not; the line says which layer is in the way, and why.
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
    """One layer of a chain and how it can carry a code; ``residual`` is the matrix in its skip."""

    number: int
    linear: nn.Linear
    activation: str
    skip: Literal["none", "identity", "matrix"]
    residual: nn.Linear | None

    @classmethod
    def of(cls, layer: DenseLayer | nn.Linear, number: int) -> "_Step":
        if isinstance(layer, nn.Linear):
            return cls(number, layer, "identity", "none", None)
        if not layer.use_residual:
            return cls(number, layer.linear, layer.activation_name, "none", None)
        skip: Literal["identity", "matrix"] = "identity" if layer.residual is None else "matrix"
        return cls(number, layer.linear, layer.activation_name, skip, layer.residual)

    @property
    def name(self) -> str:
        return f"layer {self.number}"

    def pass_on(self, rows: Tensor) -> Tensor:
        """Carry the code that rows (r, in) make of the input; return the reader of the output."""
        if self.activation == "identity" and self.residual is None:
            return carry(self.linear, rows, self.name)
        if self.residual is not None and self.activation != _NO_GRADIENT_AT_ZERO:
            self._silence()
            return carry(self.residual, rows, self.name)
        if self.activation not in _IN_PAIRS:
            raise ProjheadsError(
                f"the activation {self.activation} of {self.name} has no skip around it, and lets no linear map through"
            )
        return self._carry_in_pairs(rows)

    def pass_by(self, reader: Tensor) -> Tensor:
        """Let the code pass by the branch, which starts at zero."""
        self._silence()
        return reader

    def end(self, matrix: Tensor, bias: Tensor | None) -> None:
        """Map the layer's input by the matrix (out_features, in) and a bias: the chain's output."""
        if self.skip == "identity":
            self._require_identity("adds to its own input and so starts from the identity")
            set_linear(self.linear, matrix - torch.eye(len(matrix), dtype=matrix.dtype), bias)
        elif self.residual is not None or not matrix.any():
            # The linear part starts at zero: nothing but an activation that is 0 there, and a bias behind none.
            if bias is not None and bool(bias.any()):
                self._require_identity("stands between its bias and the output")
            self._silence()
            set_linear(self.linear, torch.zeros_like(self.linear.weight), bias)
            if self.residual is not None:
                self.residual.weight.copy_(matrix)
        else:
            self._require_identity("stands behind the last matrix")
            set_linear(self.linear, matrix, bias)

    def _carry_in_pairs(self, rows: Tensor) -> Tensor:
        rank, width = len(rows), self.linear.out_features
        _require_width(self.linear, 2 * rank, self.name, f" in pairs of {self.activation} units")
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
                f"the branch of {self.name} would have to start at zero, where {self.activation} has no gradient"
            )
        set_linear(self.linear, torch.zeros_like(self.linear.weight), None)

    def _require_identity(self, why_not: str) -> None:
        if self.activation != "identity":
            raise ProjheadsError(f"the activation {self.activation} of {self.name} {why_not}")


def _require_width(linear: nn.Linear, needed: int, where: str, how: str = "") -> None:
    if linear.out_features < needed:
        raise ProjheadsError(f"{where} is {linear.out_features} wide, and carrying the map{how} takes {needed}")


def _orthonormal(drawn: Tensor, rank: int) -> Tensor:
    """Return orthonormal columns (rows of drawn, rank) that depend on what was drawn; drawn has at least rank columns.

    Signs are those that make QR unique, a positive diagonal of R, so that they do not hang on the library.
    """
    basis, triangle = torch.linalg.qr(drawn[:, :rank])
    return torch.where(triangle.diagonal() < 0, -basis, basis)
