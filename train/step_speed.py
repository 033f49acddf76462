"""How fast this machine trains a head on token states, from a few steps of a small batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional

from experiment.config import TrainConfig
from experiment.encoding.speed import TextSample, fastest
from projheads import Head
from projheads.scoring import maxsim
from train.batch import BackwardPass
from train.data.examples import TrainingData
from train.embedding.embedders import FrozenEmbedder
from train.processes import Processes

__all__ = ["StepSpeed", "measure_steps"]

EXAMPLES, MULTIPLY_ADDS = 32, 2 * 10**10
"""Examples of the batch that is timed, and multiply-adds of the most expensive head for them, at most."""

ROUNDS = 3


@dataclass(frozen=True)
class StepSpeed:
    """How fast heads are trained.

    Attributes:
        costs: Multiply-adds for a token of the cheapest and of the most expensive head.
        per_token: Seconds for a token with each of them: forward, backward, and all but MaxSim.
        per_similarity: Seconds for a multiply-add of MaxSim, with its gradient.
    """

    costs: tuple[int, int]
    per_token: tuple[float, float]
    per_similarity: float

    def seconds(self, tokens: float, cost: int, similarities: float) -> float:
        """Return the time for so many tokens with a head of a cost, and so many multiply-adds of MaxSim."""
        between = float(np.interp(cost, self.costs, self.per_token))
        return tokens * between + similarities * self.per_similarity


def measure_steps(
    config: TrainConfig, heads: Mapping[int, Head], queries: TextSample, documents: TextSample, device: torch.device
) -> StepSpeed:
    """Time a few steps with the cheapest and the most expensive head.

    Args:
        config: The training section.
        heads: The heads, at least one, by their multiply-adds for a token.
        queries: A sample of the queries, with their token states.
        documents: A sample of the documents.
        device: The device.
    """
    costs, per_token = (min(heads), max(heads)), []
    most = int(MULTIPLY_ADDS / max(1.0, costs[1] * (queries.tokens + documents.tokens)))
    data = _pairs(max(2, min(EXAMPLES, config.batch_size, most)), len(queries.states), len(documents.states))
    batch = np.arange(len(data.examples))
    tokens = sum(
        sample.states.lengths[data.examples[:, side]].sum() for side, sample in enumerate((queries, documents))
    )
    embed = FrozenEmbedder(queries.states, documents.states, device)
    plain = config.model_copy(update={"loss": type(config).model_fields["loss"].default, "mini_batch_size": None})
    per_similarity, of_scores = _maxsim_seconds(heads[costs[0]].out_features, embed, data, device)
    for head in (heads[cost] for cost in costs):
        scaler = GradScaler(device.type, enabled=False)
        step = BackwardPass(plain, head.to(device).train(), embed, data, (), 0, scaler, Processes())
        seconds = fastest(lambda step=step: float(step(batch, ())), ROUNDS)  # type: ignore[misc]
        head.zero_grad()
        per_token.append(max(0.0, seconds - of_scores) / float(tokens))
    return StepSpeed(costs, (per_token[0], per_token[1]), per_similarity)


def _maxsim_seconds(width: int, embed: FrozenEmbedder, data: TrainingData, device: torch.device) -> tuple[float, float]:
    """Return the seconds of MaxSim and its gradient for a multiply-add, and for the batch."""
    sides = []
    for store, texts in ((embed.queries, data.examples[:, 0]), (embed.documents, data.examples[:, 1])):
        drawn = torch.Generator().manual_seed(0)
        shape = len(texts), int(store.lengths[texts].max()), width
        sides.append(functional.normalize(torch.randn(shape, generator=drawn), dim=-1).to(device).requires_grad_())

    def score() -> float:
        return float(torch.autograd.grad(maxsim(*sides).sum(), sides)[0].sum())

    seconds = fastest(score, ROUNDS)
    rows = [side.shape[0] * side.shape[1] for side in sides]
    return seconds / (rows[0] * rows[1] * width), seconds


def _pairs(count: int, queries: int, documents: int) -> TrainingData:
    """Pair the texts of two samples; a short sample is repeated."""
    places = np.arange(count)
    return TrainingData(
        queries=[""] * queries,
        documents=[""] * documents,
        examples=np.stack([places % queries, places % documents], axis=1),
        teacher_scores=None,
        validation=np.empty((0, 2), np.int64),
        relevant={},
        hash="",
        notes={},
    )
