"""Training of one trial: read ``train_trial`` from top to bottom, it is the method."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.profiler import record_function

from experiment.config import TrainConfig
from experiment.disk.records import TrainLine
from experiment.encoding.device import autocast
from projheads.hosts.base import HostModel
from projheads.scoring import maxsim
from train.batch import backward_batch
from train.data.examples import TrainingData, order_of
from train.embedding.embedders import Embedder, pad
from train.failures import TrainingFailedError
from train.loss import contrastive_loss, make_loss, pair_accuracy
from train.ndcg import held_out_ndcg
from train.optimization import add_gradient_noise, make_optimizers, set_learning_rates
from train.processes import Processes
from train.resume import Checkpoint

__all__ = ["MEASURE", "TrainingLog", "count_steps", "train_trial", "validate"]

MEASURE = "nDCG@10"
"""What a sweep chooses by, as ``validate`` names it."""


@dataclass
class TrainingLog:
    """What a trial's training leaves besides its weights.

    Attributes:
        lines: The lines of train.jsonl, as JSON values.
        losses: The loss of each step.
        validation: ``loss``, ``accuracy`` and ``nDCG@10`` on the held-out pairs after the last step; None without
            held-out pairs.
        seconds: Time of the training steps, without validation.
        examples_per_s: Pairs or tuples trained on in a second.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validation: dict[str, float] | None = None
    seconds: float = 0.0
    examples_per_s: float = 0.0

    @property
    def loss(self) -> float:
        """Mean loss over the last tenth of the steps; NaN in front of the first."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail) if tail else math.nan

    def __str__(self) -> str:
        """Tell the trial in a few words."""
        held_out = ""
        if self.validation:
            held_out = f", held-out loss {self.validation['loss']:.3f} {MEASURE} {self.validation[MEASURE]:.3f}"
        return f"loss {self.loss:.3f}{held_out}, {self.seconds:.1f} s, {self.examples_per_s:.0f} examples/s"


def count_steps(settings: TrainConfig, examples: int) -> int:
    """Return the number of optimiser steps that ``examples`` pairs or tuples lead to."""
    steps = settings.epochs * (examples // (settings.batch_size * settings.gradient_accumulation))
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def train_trial(
    settings: TrainConfig,
    head: nn.Module,
    model: HostModel | None,
    embed: Embedder,
    data: TrainingData,
    seed: int,
    *,
    widths: Sequence[int] = (),
    on_step: Callable[[int, TrainingLog], None] = lambda step, log: None,
    on_line: Callable[[dict[str, Any]], None] = lambda line: None,
    checkpoint: Checkpoint | None = None,
    processes: Processes = Processes(),  # noqa: B008
) -> TrainingLog:
    """Train one head, and the backbone in front of it where a model is given.

    Args:
        settings: The training section of the configuration.
        head: The head at its initialisation, on the device; trained in place.
        model: The model that holds the head, to train its backbone too; None where the backbone is frozen.
        embed: Gives the token embeddings of a batch.
        data: What is trained on.
        seed: Decides the order of the data, the dropout and the noise.
        widths: Widths of the token embeddings that the loss is averaged over; none for the full one alone.
        on_step: Called after each step with its number, from 1, and with what was measured so far.
        on_line: Called with each new line of train.jsonl.
        checkpoint: Where points are kept from which the trial goes on; None for a trial without.
        processes: The processes that train the trial together.

    Returns:
        What was measured on the way.

    Raises:
        TrainingFailedError: If a loss or a gradient is not finite.
    """
    device = next(head.parameters()).device
    trained = head if model is None else model.native
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    step_size = settings.batch_size * settings.gradient_accumulation
    steps = count_steps(settings, len(data.examples))
    validate_at = {round(steps * (n + 1) / settings.validations) for n in range(settings.validations)}
    loss_of = make_loss(settings.loss)
    optimizers = make_optimizers(settings, head, trained)
    scaler = GradScaler(device.type, enabled=settings.precision == "fp16")
    done, progress = checkpoint.load(trained, optimizers, scaler) if checkpoint else (0, None)
    log = TrainingLog(**progress) if progress else TrainingLog()
    on_step(done, log)

    def note(line: TrainLine) -> None:
        log.lines.append(line.to_dict())
        on_line(log.lines[-1])

    trained.train()
    for step, examples in islice(enumerate(order_of(data, step_size, steps, seed), start=1), done, None):
        started = time.perf_counter()
        rate = set_learning_rates(optimizers, settings, step, steps)
        loss = torch.zeros((), device=device)
        for part, batch in enumerate(np.split(examples, settings.gradient_accumulation)):
            loss += backward_batch(
                settings, loss_of, head, embed, data, batch,
                widths=widths, seed=seed, stream=("dropout", step, part), scaler=scaler, processes=processes,
            )  # fmt: skip
        with record_function("optimizer"):
            processes.sum_up([loss, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
            loss /= settings.gradient_accumulation
            for optimizer in optimizers:
                scaler.unscale_(optimizer)
            norm = clip_grad_norm_(parameters, settings.max_grad_norm or math.inf)
            _check_finite(step, loss, norm, scaler)
            if settings.optimizer.gradient_noise:
                add_gradient_noise(parameters, settings.optimizer.gradient_noise, seed, step)
            for optimizer in optimizers:
                scaler.step(optimizer)
                optimizer.zero_grad()
            scaler.update()
        log.losses.append(loss.item())
        log.seconds += time.perf_counter() - started
        log.examples_per_s = step * step_size / log.seconds

        if step % settings.log_every == 0 or step in (1, steps):
            gradient_norm = norm.item() if torch.isfinite(norm) else None
            note(
                TrainLine(
                    step=step, loss=log.losses[-1], learning_rate=rate,
                    gradient_norm=gradient_norm, examples_per_s=round(log.examples_per_s, 2),
                )
            )  # fmt: skip
        if step in validate_at and len(data.validation):
            log.validation = validate(settings, head, trained, embed, data)
            note(TrainLine(step=step, **{f"validation_{name}": value for name, value in log.validation.items()}))
        if checkpoint and processes.main and step % checkpoint.every == 0 and step < steps:
            checkpoint.save(step, trained, optimizers, scaler, asdict(log))
        on_step(step, log)
    return log


def _check_finite(step: int, loss: Tensor, norm: Tensor, scaler: GradScaler) -> None:
    """Stop the trial where its numbers are lost; in fp16 a gradient may overflow now and then, and the scale falls."""
    if torch.isfinite(loss) and (torch.isfinite(norm) or (scaler.is_enabled() and scaler.get_scale() > 1)):
        return
    raise TrainingFailedError(
        f"step {step}: loss {loss.item()}, gradient norm {norm.item()}; "
        "lower train.optimizer.head_lr, raise train.loss.temperature, or train in fp32"
    )


def validate(
    settings: TrainConfig, head: nn.Module, trained: nn.Module, embed: Embedder, data: TrainingData
) -> dict[str, float]:
    """Rank the held-out documents for each held-out query.

    Returns:
        ``loss``: the contrastive loss with all held-out documents as one batch, at the temperature of the loss that
        is trained with; ``accuracy``: the share of queries whose relevant document comes first; ``nDCG@10``: with
        the held-out documents as the corpus.
    """
    device = next(head.parameters()).device
    trained.eval()
    columns = []
    ignore = torch.from_numpy(data.false_negatives(data.validation)).to(device)
    with torch.no_grad(), autocast(device, settings.precision):
        chunks = [data.validation[at : at + 64] for at in range(0, len(data.validation), 64)]
        documents = [pad(*embed(head, chunk[:, 1], is_query=False)) for chunk in chunks]
        for chunk in chunks:
            queries, queries_mask = pad(*embed(head, chunk[:, 0], is_query=True))
            columns.append(torch.cat([maxsim(queries, d, queries_mask, mask) for d, mask in documents], dim=1))
    scores = torch.cat(columns)
    trained.train()
    return {
        "loss": float(contrastive_loss(scores, make_loss(settings.loss).temperature, ignore)),
        "accuracy": pair_accuracy(scores, ignore),
        MEASURE: held_out_ndcg(scores, data.validation, data.relevant),
    }
