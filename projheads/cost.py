"""The cost of a head, and warnings about widths that add nothing."""

from dataclasses import dataclass

import torch

from projheads.folding import fold, folds, nonlinear_part
from projheads.head import Head, head_label
from projheads.reparameterization import count_multiply_adds, reparameterize

__all__ = ["HeadCost", "head_cost", "head_warnings"]


@dataclass(frozen=True)
class HeadCost:
    """The cost of a head.

    Attributes:
        parameters: Number of trainable parameters.
        multiply_adds: Matrix-product multiply-adds for one token at inference, as trained: one for each entry of each
            matrix, including those in skips. Biases, activations, identity skips, reflections of a token and the
            element-wise product of a gate are not counted, because they grow with the widths rather than with their
            products.
        inference_multiply_adds: Those of the cheapest equal form.
        inference_form: The spec of that form; None if it is the head itself.
        folds: Whether the head is one matrix at inference, which costs in_features * out_features.
        why_not: The part that prevents folding, or None.
    """

    parameters: int
    multiply_adds: int
    inference_multiply_adds: int
    inference_form: str | None
    folds: bool
    why_not: str | None


def head_cost(head: Head) -> HeadCost:
    """Measure the cost of a head, as trained and in its cheapest equal form."""
    cheapest = reparameterize(head)
    return HeadCost(
        parameters=sum(parameter.numel() for parameter in head.parameters()),
        multiply_adds=count_multiply_adds(head),
        inference_multiply_adds=count_multiply_adds(cheapest),
        inference_form=None if cheapest is head else str(cheapest.spec),
        folds=folds(head),
        why_not=nonlinear_part(head),
    )


def head_warnings(head: Head) -> list[str]:
    """Return one line for each legal but probably unintended property.

    A linear head whose matrix has rank below ``out_features`` (more outputs than inputs, or a narrow layer in between)
    wastes dimensions of the index.
    """
    if not folds(head):
        return []
    rank = int(torch.linalg.matrix_rank(fold(head).weight.detach().cpu().double(), rtol=1e-6))
    if rank >= head.out_features:
        return []
    return [
        f"{head_label(head)} is linear with rank {rank}, so {head.out_features} out_features carry no more than "
        f"{rank} would; lower out_features or widen the head"
    ]
