"""``contrastive``: cross-entropy of the relevant document against every other document of the batch."""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from experiment.fields import Positive, Section
from experiment.losses.loss import Scope

__all__ = ["Contrastive", "contrastive_loss", "pair_accuracy"]


class Contrastive(Section):
    """Cross-entropy of the relevant document against every other document of the batch.

    Attributes:
        name: ``contrastive``.
        temperature: Divides the MaxSim scores before the softmax.
    """

    scope: ClassVar[Scope] = "batch"
    needs_teacher: ClassVar[bool] = False

    name: Literal["contrastive"] = "contrastive"
    temperature: Positive = 1.0

    def __call__(
        self, scores: Tensor, *, n_ways: int = 1, ignore: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """See ``Loss``; a query's first document is the relevant one."""
        return contrastive_loss(scores, self.temperature, ignore, n_ways=n_ways)


def contrastive_loss(
    scores: Tensor, temperature: float = 1.0, ignore: Tensor | None = None, *, n_ways: int = 1
) -> Tensor:
    """Cross-entropy of the relevant document against the other documents of the batch.

    loss = -mean_i log( exp(s_i,in / t) / sum_j exp(s_ij / t) ), where j runs over the documents that are not ignored.
    Of the n = n_ways documents of query i, columns i n to i n + n - 1, the first is relevant and the others are hard
    negatives.
    Source: InfoNCE, van den Oord et al. (2018), with in-batch and hard negatives as in Karpukhin et al. (2020).

    Args:
        scores: (B, D) MaxSim of each query with each document, D >= B * n_ways.
        temperature: Divides the scores.
        ignore: (B, D) bool, True where a document is not used as a negative because it is relevant too.
        n_ways: Documents of a query.

    Returns:
        The loss, a scalar.
    """
    logits = scores / temperature
    if ignore is not None:
        logits = logits.masked_fill(ignore, float("-inf"))
    targets = torch.arange(len(scores), device=scores.device) * n_ways
    return functional.cross_entropy(logits, targets)


def pair_accuracy(scores: Tensor, ignore: Tensor | None = None) -> float:
    """Return the share of queries whose relevant document scores above every document that is not ignored.

    Args:
        scores: (B, B) as in ``contrastive_loss``.
        ignore: (B, B) bool as in ``contrastive_loss``.
    """
    relevant = scores.diagonal().unsqueeze(1)
    others = torch.ones_like(scores, dtype=torch.bool).fill_diagonal_(False)
    if ignore is not None:
        others &= ~ignore
    beaten = ((scores >= relevant) & others).any(dim=1)
    return float((~beaten).float().mean())
