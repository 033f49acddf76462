"""Fold several linear layers into one: the same embeddings for the cost of a single matrix."""

import copy

import torch
from torch import nn

from projheads.errors import ProjheadsError
from projheads.head import Head, head_label, reference_tensor

__all__ = ["fold", "folds", "nonlinear_part"]

_LINEAR_MODULES = (nn.Linear, nn.Identity, nn.Dropout)


def folds(head: nn.Module) -> bool:
    """Return whether :func:`fold` accepts this head."""
    return nonlinear_part(head) is None


def nonlinear_part(head: nn.Module) -> str | None:
    """Name the part that keeps a module from being one matrix and bias at inference; None if there is none.

    Heads, and any module with a ``nonlinear_part`` method, answer for themselves. Of torch's own modules, linear
    layers, identities, dropout (which does nothing at inference) and sequences of these are linear.
    """
    if isinstance(head, nn.Sequential):
        parts = (nonlinear_part(child) for child in head)
        return next((part for part in parts if part), None)
    if isinstance(head, _LINEAR_MODULES):
        return None
    answer = getattr(head, "nonlinear_part", None)
    part: str | None = answer() if callable(answer) else f"{type(head).__name__}, which is not known to be linear"
    return part


def fold(head: nn.Module) -> nn.Linear:
    """Fold a linear head into one layer that computes what the head computes at inference.

    y = W x + b is read from a float64 copy: b = f(0) and the columns of W are f(e_i) - b. The input is not changed.

    Args:
        head: A head, or a sequence of linear layers.

    Returns:
        A new layer, with a bias only if f(0) is not 0, in the dtype and on the device of the head's weights, in
        the head's mode. In float32 its embeddings agree with the head's to 1e-6 after L2 normalisation.

    Raises:
        ProjheadsError: If the head is not linear; the message names the part that is not.
    """
    part = nonlinear_part(head)
    if part is not None:
        raise ProjheadsError(f"{head_label(head)} does not fold into one matrix because of {part}")
    weights = reference_tensor(head).detach()
    exact = copy.deepcopy(head).cpu().double().eval()
    in_features = head.in_features if isinstance(head, Head) else _first_linear(head).in_features
    with torch.no_grad():
        bias = exact(torch.zeros(in_features, dtype=torch.float64))
        matrix = (exact(torch.eye(in_features, dtype=torch.float64)) - bias).T
        folded = nn.Linear(in_features, len(bias), bias=bool(bias.any()), device="meta")
        folded.weight = nn.Parameter(matrix.to(weights.dtype).contiguous().to(weights.device))
        if bias.any():
            folded.bias = nn.Parameter(bias.to(weights.dtype).to(weights.device))
    return folded.train(head.training)


def _first_linear(head: nn.Module) -> nn.Linear:
    return next(module for module in head.modules() if isinstance(module, nn.Linear))
