"""Training of one trial: read ``train_trial`` from top to bottom, it is the method."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from experiment.config import TrainConfig
from experiment.device import autocast
from experiment.seeds import seed_for
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel
from projheads.scoring import maxsim
from train.data import TrainingData, order_of
from train.embed import Embedder
from train.loss import contrastive_loss, pair_accuracy
from train.matryoshka import prefixes
from train.ndcg import held_out_ndcg
from train.optimization import make_optimizer, make_scheduler

__all__ = ["MEASURE", "TrainingFailedError", "TrialRecord", "count_steps", "train_trial", "validate"]

MEASURE = "nDCG@10"
"""What a sweep chooses by, as ``validate`` names it."""


class TrainingFailedError(ProjheadsError):
    """A trial that cannot go on, for instance because its loss is no longer finite; other trials can."""


@dataclass
class TrialRecord:
    """What a trial's training leaves behind beside its weights.

    Attributes:
        lines: The lines of train.jsonl.
        loss: Mean loss over the last tenth of the steps.
        validation: ``loss``, ``accuracy`` and ``nDCG@10`` on the held-out pairs after the last step; None without
            held-out pairs.
        seconds: Time of the training steps, without validation.
        examples_per_s: Pairs trained on in a second.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    loss: float = math.nan
    validation: dict[str, float] | None = None
    seconds: float = 0.0
    examples_per_s: float = 0.0

    def __str__(self) -> str:
        """Tell the trial in a few words."""
        held_out = ""
        if self.validation:
            held_out = f", held-out loss {self.validation['loss']:.3f} {MEASURE} {self.validation[MEASURE]:.3f}"
        return f"loss {self.loss:.3f}{held_out}, {self.seconds:.1f} s, {self.examples_per_s:.0f} pairs/s"


def count_steps(settings: TrainConfig, pairs: int) -> int:
    """Return the number of optimiser steps that ``pairs`` training pairs lead to."""
    steps = settings.epochs * (pairs // settings.batch_size)
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def train_trial(
    settings: TrainConfig,
    head: nn.Module,
    model: HostModel | None,
    embed: Embedder,
    data: TrainingData,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    widths: Sequence[int] = (),
) -> TrialRecord:
    """Train one head, and the backbone in front of it where a model is given.

    Args:
        settings: The training section of the configuration.
        head: The head at its initialisation, on the device; trained in place.
        model: The model that holds the head, to train its backbone too; None where the backbone is frozen.
        embed: Gives the token embeddings of a batch.
        data: The training pairs.
        seed: Decides the order of the data and the dropout.
        on_step: Called after each step with its number, from 1, and its loss.
        widths: Widths of the token embeddings that the loss is averaged over; none for the full one alone.

    Returns:
        What was measured on the way.

    Raises:
        TrainingFailedError: If a loss or a gradient is not finite.
    """
    device = next(head.parameters()).device
    trained = head if model is None else model.native
    steps = count_steps(settings, len(data.pairs))
    optimizer = make_optimizer(settings, head, [] if model is None else model.backbone_parameters())
    scheduler = make_scheduler(settings, optimizer, steps)
    validate_at = {round(steps * (n + 1) / settings.validations) for n in range(settings.validations)}
    record, losses = TrialRecord(), []

    trained.train()
    for step, batch in enumerate(order_of(data, settings.batch_size, steps, seed), start=1):
        started = time.perf_counter()
        ignore = torch.from_numpy(data.false_negatives(batch)).to(device)
        with _dropout_stream(seed, step), autocast(device, settings.precision):
            queries, queries_mask = embed(head, batch[:, 0], is_query=True)
            documents, documents_mask = embed(head, batch[:, 1], is_query=False)
            losses_by_width = [
                contrastive_loss(maxsim(q, d, queries_mask, documents_mask), settings.temperature, ignore)
                for q, d in prefixes(queries, documents, widths)
            ]
            loss = torch.stack(losses_by_width).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_grad_norm_(trained.parameters(), settings.max_grad_norm or math.inf)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise TrainingFailedError(
                f"step {step}: loss {loss.item()}, gradient norm {norm.item()}; "
                "lower train.optimizer.head_lr, raise train.temperature, or train in fp32"
            )
        rate = scheduler.get_last_lr()[0]
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        record.seconds += time.perf_counter() - started

        if step % settings.log_every == 0 or step in (1, steps):
            record.examples_per_s = step * settings.batch_size / record.seconds
            record.lines.append(
                {
                    "step": step,
                    "loss": losses[-1],
                    "learning_rate": rate,
                    "gradient_norm": norm.item(),
                    "examples_per_s": round(record.examples_per_s, 2),
                }
            )
        if step in validate_at and len(data.validation):
            record.validation = validate(settings, head, trained, embed, data)
            record.lines.append(
                {"step": step} | {f"validation_{name}": value for name, value in record.validation.items()}
            )
        on_step(step, losses[-1])
    tail = losses[-max(1, steps // 10) :]
    record.loss = sum(tail) / len(tail)
    return record


def validate(
    settings: TrainConfig, head: nn.Module, trained: nn.Module, embed: Embedder, data: TrainingData
) -> dict[str, float]:
    """Rank the held-out documents for each held-out query.

    Returns:
        ``loss``: the contrastive loss with all held-out documents as one batch; ``accuracy``: the share of queries
        whose relevant document comes first; ``nDCG@10``: with the held-out documents as the corpus.
    """
    device = next(head.parameters()).device
    trained.eval()
    columns = []
    ignore = torch.from_numpy(data.false_negatives(data.validation)).to(device)
    with torch.no_grad(), autocast(device, settings.precision):
        chunks = [data.validation[at : at + 64] for at in range(0, len(data.validation), 64)]
        documents = [embed(head, chunk[:, 1], is_query=False) for chunk in chunks]
        for chunk in chunks:
            queries, queries_mask = embed(head, chunk[:, 0], is_query=True)
            columns.append(torch.cat([maxsim(queries, d, queries_mask, mask) for d, mask in documents], dim=1))
    scores = torch.cat(columns)
    trained.train()
    return {
        "loss": float(contrastive_loss(scores, settings.temperature, ignore)),
        "accuracy": pair_accuracy(scores, ignore),
        MEASURE: held_out_ndcg(scores, data.validation, data.relevant),
    }


@contextmanager
def _dropout_stream(seed: int, step: int) -> Iterator[None]:
    """Draw dropout from a stream of the seed's own, and leave torch's global random state as it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed_for(seed, "dropout", step))
        yield
