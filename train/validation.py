"""Validation on the held-out pairs and on the development queries."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiment.config import TrainConfig
from experiment.encoding.device import autocast
from experiment.losses import contrastive_loss, pair_accuracy
from projheads.scoring import maxsim
from train.data.development import Development
from train.data.examples import TrainingData
from train.embedding.embedders import BatchEmbedder, pad
from train.ndcg import held_out_ndcg, ndcg

__all__ = ["DEVELOPMENT", "MEASURE", "choice_measure", "line_of", "validate"]

MEASURE = "nDCG@10"
"""The measure that decides a sweep."""

DEVELOPMENT = f"development_{MEASURE}"
"""Its name in a trial's files if it is measured on the development queries."""

OF_ONE = f"{DEVELOPMENT} of "
"""Its name for one of several collections, before the name of the collection."""

CHUNK = 64
"""Texts that are embedded at once."""


def choice_measure(data: TrainingData) -> str:
    """Return the name of the measure that decides a sweep."""
    return DEVELOPMENT if data.development else MEASURE


def validate(
    config: TrainConfig, head: nn.Module, trained: nn.Module, embed: BatchEmbedder, data: TrainingData
) -> dict[str, float]:
    """Rank the held-out documents for each held-out query, and its corpus for each development query.

    Returns:
        With held-out pairs ``loss``: the contrastive loss with all held-out documents as one batch, at the temperature
        of the training loss; ``accuracy``: the share of queries whose relevant document ranks first; ``nDCG@10``: with
        the held-out documents as the corpus. With development queries ``development_nDCG@10``: the mean over
        collections, which count equally; if there are several, also ``development_nDCG@10 of my/data (dev)``.
    """
    found: dict[str, float] = {}
    trained.eval()
    if len(data.validation):
        scores = _scores(config, head, embed, data.validation[:, 0], data.validation[:, 1])
        ignore = torch.from_numpy(data.false_negatives(data.validation)).to(scores.device)
        found["loss"] = float(contrastive_loss(scores, config.loss.temperature, ignore))
        found["accuracy"] = pair_accuracy(scores, ignore)
        found[MEASURE] = held_out_ndcg(scores, data.validation, data.relevant, data.excluded)
    reached: dict[str, float] = {}
    for one, *indices in zip(data.development, data.development_queries, data.development_documents, strict=True):
        reached[one.name] = _development_ndcg(_scores(config, head, embed, *indices), one)
    if reached:
        found[DEVELOPMENT] = sum(reached.values()) / len(reached)
    if len(reached) > 1:
        found |= {f"{OF_ONE}{name}": value for name, value in reached.items()}
    trained.train()
    return found


def line_of(found: Mapping[str, float]) -> dict[str, Any]:
    """Return what ``validate`` measured as fields of a line of train.jsonl."""
    each = {name.removeprefix(OF_ONE): value for name, value in found.items() if name.startswith(OF_ONE)}
    held_out = {f"validation_{name}": value for name, value in found.items() if not name.startswith(DEVELOPMENT)}
    mean = {name: value for name, value in found.items() if name == DEVELOPMENT}
    return held_out | mean | ({"development": each} if each else {})


def _scores(
    config: TrainConfig, head: nn.Module, embed: BatchEmbedder, queries: np.ndarray, documents: np.ndarray
) -> Tensor:
    """Compute the MaxSim of every query with every document, (n_queries, n_documents)."""
    scores = torch.empty(len(queries), len(documents), device=next(head.parameters()).device)
    with torch.no_grad(), autocast(scores.device, config.precision):
        embedded = [
            (rows, *pad(*embed(head, queries[rows], is_query=True))) for rows in _chunks(embed, queries, is_query=True)
        ]
        for columns in _chunks(embed, documents, is_query=False):
            vectors, mask = pad(*embed(head, documents[columns], is_query=False))
            for rows, tokens, taken in embedded:
                scores[rows[:, None], columns] = maxsim(tokens, vectors, taken, mask)
    return scores


def _chunks(embed: BatchEmbedder, indices: np.ndarray, *, is_query: bool) -> list[np.ndarray]:
    """Divide the places of ``indices`` into chunks of texts of similar length, which need little padding."""
    order = np.argsort(embed.lengths(indices, is_query=is_query), kind="stable")
    return [order[at : at + CHUNK] for at in range(0, len(order), CHUNK)]


def _development_ndcg(scores: Tensor, development: Development) -> float:
    """Compute the mean nDCG@10 of the development queries."""
    scores = scores.float().cpu()
    hidden = development.hidden.reshape(len(scores), -1)
    rows, places = np.nonzero(hidden >= 0)
    scores[rows, hidden[rows, places]] = float("-inf")
    return float(ndcg(scores, torch.from_numpy(development.gains)).mean())
