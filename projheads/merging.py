"""Chains of dense layers with fewer multiply-adds and the same output."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from projheads.blocks import DenseLayer

__all__ = ["Branches", "as_branches", "merge_chain"]


@dataclass(frozen=True)
class Branches:
    """y = skip x + chain(x): a hidden layer, whose linear part is one matrix.

    Attributes:
        skip: (out_features, in_features).
        chain: The active channels, from the input to the output.
    """

    skip: Tensor
    chain: list[DenseLayer]


def merge_chain(layers: Sequence[DenseLayer]) -> list[DenseLayer]:
    """Multiply neighbouring layers without an activation between them, wherever that costs less.

    Args:
        layers: The chain; it is only read.

    Returns:
        A chain with the same output at inference, in float64 on the CPU.
    """
    merged = [_plain(copy.deepcopy(layer).cpu().double().eval()) for layer in layers]
    with torch.no_grad():
        while len(merged) > 1:
            pairs = enumerate(itertools.pairwise(merged))
            savings = [(_saving(*pair), -at) for at, pair in pairs if _can_multiply(*pair)]
            saving, at = max(savings, default=(-1, 0))
            if saving < 0:
                break
            merged[-at : -at + 2] = [_product(*merged[-at : -at + 2])]
    return merged


def as_branches(layers: Sequence[DenseLayer]) -> Branches | None:
    """Write a hidden layer with a skip or idle channels, and the matrix after it, as two branches.

    Args:
        layers: A chain of :func:`merge_chain`.

    Returns:
        The branches; None if the chain has a different form, or nothing in it is linear.
    """
    if len(layers) != 2 or layers[1].activation_name != "identity":
        return None
    first, last = layers
    active = first.out_features - first.idle
    if not first.idle and not first.use_residual:
        return None
    with torch.no_grad():
        weight, bias = first.linear.weight, first.linear.bias
        out = last.linear.weight
        out_bias: Tensor | None = last.linear.bias
        skip = out[:, active:] @ weight[active:]
        if first.use_residual:
            skip = skip + (out if first.residual is None else out @ first.residual.weight)
        if first.idle and bias is not None:
            moved = out[:, active:] @ bias[active:]
            out_bias = moved if out_bias is None else out_bias + moved
        hidden = _linear(weight[:active], None if bias is None else bias[:active])
        chain = [
            DenseLayer.around(hidden, activation=first.activation_name),
            DenseLayer.around(_linear(out[:, :active], out_bias)),
        ]
    return Branches(skip, chain)


def _plain(layer: DenseLayer) -> DenseLayer:
    """Add a skip around a layer without activation to its matrix."""
    if layer.activation_name != "identity" or not layer.use_residual:
        return layer
    weight = layer.linear.weight.detach()
    skip = torch.eye(len(weight)).to(weight) if layer.residual is None else layer.residual.weight.detach()
    return DenseLayer.around(_linear(weight + skip, layer.linear.bias))


def _can_multiply(first: DenseLayer, second: DenseLayer) -> bool:
    """Return whether no activation, and no skip that would prevent it, is between two layers."""
    if first.activation_name != "identity" or (second.use_residual and second.residual is None):
        return False
    return first.linear.bias is None or second.residual is None  # that bias would have to follow the activation


def _saving(first: DenseLayer, second: DenseLayer) -> int:
    """Return how many multiply-adds the product of two layers costs less than they do; the product is not made."""
    matrices = len(second.output_layers())
    return _cost(first) + _cost(second) - matrices * first.in_features * second.out_features


def _product(first: DenseLayer, second: DenseLayer) -> DenseLayer:
    """Multiply two layers."""
    weight = second.linear.weight
    bias: Tensor | None = second.linear.bias
    if first.linear.bias is not None:
        moved = weight @ first.linear.bias
        bias = moved if bias is None else bias + moved
    skip = None if second.residual is None else _linear(second.residual.weight @ first.linear.weight, None)
    return DenseLayer.around(
        _linear(weight @ first.linear.weight, bias),
        activation=second.activation_name,
        residual=second.use_residual,
        skip=skip,
        idle=second.idle,
    )


def _cost(layer: DenseLayer) -> int:
    return sum(linear.weight.numel() for linear in layer.output_layers())


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear
