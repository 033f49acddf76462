"""Validation on the held-out pairs."""

import torch
from torch import nn

from experiment.config import TrainConfig
from experiment.encoding.device import autocast
from experiment.losses import contrastive_loss, pair_accuracy
from projheads.scoring import maxsim
from train.data.examples import TrainingData
from train.embedding.embedders import BatchEmbedder, pad
from train.ndcg import held_out_ndcg

__all__ = ["MEASURE", "validate"]

MEASURE = "nDCG@10"
"""The measure that decides a sweep."""


def validate(
    config: TrainConfig, head: nn.Module, trained: nn.Module, embed: BatchEmbedder, data: TrainingData
) -> dict[str, float]:
    """Rank the held-out documents for each held-out query.

    Returns:
        ``loss``: the contrastive loss with all held-out documents as one batch, at the temperature of the training
        loss; ``accuracy``: the share of queries whose relevant document ranks first; ``nDCG@10``: with the held-out
        documents as the corpus.
    """
    device = next(head.parameters()).device
    trained.eval()
    columns = []
    ignore = torch.from_numpy(data.false_negatives(data.validation)).to(device)
    with torch.no_grad(), autocast(device, config.precision):
        chunks = [data.validation[at : at + 64] for at in range(0, len(data.validation), 64)]
        documents = [pad(*embed(head, chunk[:, 1], is_query=False)) for chunk in chunks]
        for chunk in chunks:
            queries, queries_mask = pad(*embed(head, chunk[:, 0], is_query=True))
            columns.append(torch.cat([maxsim(queries, d, queries_mask, mask) for d, mask in documents], dim=1))
    scores = torch.cat(columns)
    trained.train()
    return {
        "loss": float(contrastive_loss(scores, config.loss.temperature, ignore)),
        "accuracy": pair_accuracy(scores, ignore),
        MEASURE: held_out_ndcg(scores, data.validation, data.relevant, data.excluded),
    }
