"""Training losses on MaxSim scores."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["contrastive_loss", "pair_accuracy"]


def contrastive_loss(scores: Tensor, temperature: float = 1.0, ignore: Tensor | None = None) -> Tensor:
    """Cross-entropy of the relevant document against the other documents of the batch.

    loss = -mean_i log( exp(s_ii / t) / sum_j exp(s_ij / t) ), where j runs over the documents that are not ignored.
    Source: InfoNCE, van den Oord et al. (2018), with in-batch negatives as in Karpukhin et al. (2020).

    Args:
        scores: (B, D) MaxSim of each query with each document, D >= B; the relevant document of query i is column i.
        temperature: Divides the scores.
        ignore: (B, D) bool, True where a document is not used as a negative because it is relevant too.

    Returns:
        The loss, a scalar.
    """
    logits = scores / temperature
    if ignore is not None:
        logits = logits.masked_fill(ignore, float("-inf"))
    targets = torch.arange(len(scores), device=scores.device)
    return functional.cross_entropy(logits, targets)


def pair_accuracy(scores: Tensor, ignore: Tensor | None = None) -> float:
    """Return the share of queries whose relevant document scores above every document that is not ignored.

    Args:
        scores: (B, D) as in ``contrastive_loss``.
        ignore: (B, D) bool as in ``contrastive_loss``.
    """
    relevant = scores.diagonal().unsqueeze(1)
    others = torch.ones_like(scores, dtype=torch.bool).fill_diagonal_(False)
    if ignore is not None:
        others &= ~ignore
    beaten = ((scores >= relevant) & others).any(dim=1)
    return float((~beaten).float().mean())
