"""The best linear stand-in for a non-linear head, which shows how much of the head's gain is non-linear."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from projheads.errors import ProjheadsError
from projheads.head import head_label, reference_tensor

__all__ = ["Linearised", "linearise"]

_ROWS = 2**14
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Linearised:
    """A linear stand-in, and how well it agrees with the head on token states that it was not fitted on.

    Attributes:
        linear: The stand-in, in evaluation mode, in the dtype and on the device of the head's weights.
        r2: Share of the variance of the head's normalised embeddings that those of the stand-in explain.
        mean_cosine: Mean cosine between the embeddings of the head and of the stand-in.
        fitted: Token states that it was fitted on.
        held_out: Token states that ``r2`` and ``mean_cosine`` were measured on.
    """

    linear: nn.Linear
    r2: float
    mean_cosine: float
    fitted: int
    held_out: int


def linearise(head: nn.Module, states: Tensor, *, bias: bool = False) -> Linearised:
    """Fit one matrix to a head's embeddings on token states.

    Only the direction of an embedding matters to a search, so each error is relative to the norm of the output:
    sum |A x + b - f(x)|^2 / |f(x)|^2 is minimised. A linear head is recovered exactly. The normal equations are summed
    in float64 and solved by an eigendecomposition; if the states span too little, the solution is that of least norm.

    Args:
        head: Any head, in any mode; it is not changed.
        states: (n, in_features); the last fifth is held out.
        bias: Whether b is fitted too; a stock ColBERT has none.

    Raises:
        ProjheadsError: If there are fewer than five states, or the head's output is not finite or 0 everywhere.
    """
    if states.ndim != 2 or len(states) < 5:
        raise ProjheadsError(
            f"linearise needs at least 5 token states (n, in_features), got shape {tuple(states.shape)}"
        )
    weights = reference_tensor(head)
    inference = copy.deepcopy(head).eval()
    fitted = len(states) - max(1, int(_HELD_OUT * len(states)))
    gram: Tensor | float = 0.0
    product: Tensor | float = 0.0
    with torch.no_grad():
        for rows in torch.split(states[:fitted], _ROWS):
            outputs = _outputs(inference, rows, weights)
            norms = outputs.norm(dim=-1, keepdim=True)
            inputs = rows.to(outputs)
            inputs = torch.cat([inputs, torch.ones_like(norms)], dim=1) if bias else inputs
            scaled = torch.where(norms > 0, inputs / norms, 0.0)
            gram = gram + scaled.T @ scaled
            product = product + scaled.T @ torch.where(norms > 0, outputs / norms, 0.0)
        if not isinstance(gram, Tensor) or not isinstance(product, Tensor) or not gram.any():
            raise ProjheadsError(f"{head_label(head)}: the embedding of every token state is 0")
        solution = _solve(gram, product).T
        linear = nn.Linear(states.shape[1], len(solution), bias=bias).to(weights).eval()
        linear.weight.copy_(solution[:, : states.shape[1]])
        if bias:
            linear.bias.copy_(solution[:, -1])
        r2, mean_cosine = _agreement(inference, linear, states[fitted:], weights)
    return Linearised(linear, r2, mean_cosine, fitted, len(states) - fitted)


def _outputs(head: nn.Module, rows: Tensor, weights: Tensor) -> Tensor:
    outputs: Tensor = head(rows.to(weights)).double()
    if not outputs.isfinite().all():
        raise ProjheadsError(f"{head_label(head)}: its embeddings are not finite")
    return outputs


def _solve(gram: Tensor, product: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(gram)
    inverse = torch.where(values > len(values) * torch.finfo(values.dtype).eps * values[-1], 1 / values, 0.0)
    solution: Tensor = vectors @ (inverse[:, None] * (vectors.T @ product))
    return solution


def _agreement(head: nn.Module, linear: nn.Linear, states: Tensor, weights: Tensor) -> tuple[float, float]:
    """Return R2 over all entries of the normalised embeddings, and the mean cosine."""
    ours, theirs = (
        functional.normalize(
            torch.cat([_outputs(module, rows, weights) for rows in torch.split(states, _ROWS)]), dim=-1
        )
        for module in (linear, head)
    )
    spread = (theirs - theirs.mean(dim=0)).square().sum()
    error = (ours - theirs).square().sum()
    return float(1 - error / spread) if spread > 0 else float(error == 0), float((ours * theirs).sum(-1).mean())
