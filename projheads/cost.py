"""What a head costs, and what its widths promise in vain."""

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from projheads.folding import fold, folds, nonlinear_part
from projheads.head import Head, head_label, reference_tensor

__all__ = ["HeadCost", "head_cost", "head_warnings"]


@dataclass(frozen=True)
class HeadCost:
    """What a head costs.

    Attributes:
        parameters: Number of trainable numbers.
        multiply_adds: Multiply-adds of matrix products for one token at inference, unfolded: each entry of each
            matrix counts 1, those in skips too. Biases, activations, skips without a matrix and the element-wise
            product of a gate are not counted: they are of the order of the widths, not of their products.
        folds: Whether the head is one matrix at inference, which then costs in_features * out_features.
        why_not: The part that keeps it from folding, or None.
    """

    parameters: int
    multiply_adds: int
    folds: bool
    why_not: str | None


def head_cost(head: Head) -> HeadCost:
    """Measure the cost of a head; multiply-adds are counted by torch's FlopCounterMode over one token."""
    copied = copy.deepcopy(head).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copied(reference_tensor(head).new_zeros(1, head.in_features))
    return HeadCost(
        parameters=sum(parameter.numel() for parameter in head.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        folds=folds(head),
        why_not=nonlinear_part(head),
    )


def head_warnings(head: Head) -> list[str]:
    """Say in one line each what is allowed but hardly meant.

    A linear head whose matrix has a lower rank than ``out_features`` (more outputs than inputs, or a narrow layer in
    between) spends dimensions of the index on nothing.
    """
    if not folds(head):
        return []
    rank = int(torch.linalg.matrix_rank(fold(head).weight.detach().cpu().double(), rtol=1e-6))
    if rank >= head.out_features:
        return []
    return [
        f"{head_label(head)} is linear and of rank {rank}, so {head.out_features} out_features hold no more than "
        f"{rank} would; lower out_features or widen the head"
    ]
