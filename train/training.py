"""The training of one trial: ``training_steps`` is the method, in the order in which things happen."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.profiler import record_function

from experiment.config import TrainConfig
from experiment.disk.records import TrainLine
from projheads.hosts.base import HostModel
from train.averaging import WeightAverage
from train.batch import BackwardPass
from train.data.examples import TrainingData, order_of
from train.embedding.embedders import BatchEmbedder
from train.failures import TrainingFailedError
from train.head_hooks import report_progress
from train.optimization import add_gradient_noise, count_steps, make_optimizers, set_learning_rates
from train.probe import Probe
from train.processes import Processes
from train.resume import ResumePoint
from train.validation import DEVELOPMENT, MEASURE, line_of, validate

__all__ = ["Steps", "TrainingLog", "counted_from", "to_the_end", "train_trial", "training_steps"]

Given = ParamSpec("Given")
Result = TypeVar("Result")
Steps = Generator[int, None, Result]
"""Work that pauses after each step with its number, so that several trials can take turns."""


@dataclass
class TrainingLog:
    """What is measured during a trial's training.

    Attributes:
        lines: The lines of train.jsonl, as JSON values.
        losses: The loss of each step.
        clipped: Number of steps whose gradient was clipped.
        validation: What ``validate`` measured after the last step; None without held-out pairs and development queries.
        seconds: Time of the training steps, without validation.
        examples_per_s: Pairs or tuples per second.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    clipped: int = 0
    validation: dict[str, float] | None = None
    seconds: float = 0.0
    examples_per_s: float = 0.0

    @property
    def loss(self) -> float:
        """Mean loss over the last tenth of the steps; NaN before the first step."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail) if tail else math.nan

    def __str__(self) -> str:
        """Summarise the training in one line."""
        held_out = ""
        if self.validation:
            names = {"loss": "held-out loss", MEASURE: MEASURE, DEVELOPMENT: f"development {MEASURE}"}
            shown = [f"{names[name]} {value:.3f}" for name, value in self.validation.items() if name in names]
            held_out = f", {' '.join(shown)}"
        return f"loss {self.loss:.3f}{held_out}, {self.seconds:.1f} s, {self.examples_per_s:.0f} examples/s"


def training_steps(
    config: TrainConfig,
    head: nn.Module,
    model: HostModel | None,
    embed: BatchEmbedder,
    data: TrainingData,
    seed: int,
    *,
    widths: Sequence[int] = (),
    on_step: Callable[[int, TrainingLog], None] = lambda step, log: None,
    on_line: Callable[[dict[str, Any]], None] = lambda line: None,
    resume: ResumePoint | None = None,
    processes: Processes = Processes(),  # noqa: B008
    probed: bool = False,
) -> Steps[TrainingLog]:
    """Train one head, and the backbone before it if a model is given.

    It pauses at its start, with the number of steps that are done, and after each step.

    Args:
        config: The training section of the configuration.
        head: The head at its initialisation, on the device; trained in place.
        model: The model that holds the head, to train its backbone too; None if the backbone is frozen.
        embed: Computes the token embeddings of a batch.
        data: The training data.
        seed: Determines the order of the data, the dropout and the noise.
        widths: Widths of the token embeddings that the loss is averaged over; empty for the full width only.
        on_step: Called after each step with its number, from 1, and the log so far.
        on_line: Called with each new line of train.jsonl.
        resume: The trial's resume point; None for a trial without one.
        processes: The processes that train the trial together.
        probed: Whether it is recorded how gradients flow through the head; this changes no number of the training.

    Returns:
        The log of the training.

    Raises:
        TrainingFailedError: If a loss or a gradient is not finite.
    """
    trained = head if model is None else model.native
    report_progress(head, 0.0)
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    device = next(head.parameters()).device
    step_size = config.examples_a_step
    steps = count_steps(config, len(data.examples))
    validate_at = {round(steps * (n + 1) / config.validations) for n in range(config.validations)}
    sources = None if data.mix is None else data.mix.sources(steps, seed)
    optimizers = make_optimizers(config, head, trained)
    scaler = GradScaler(device.type, enabled=config.precision == "fp16")
    backward = BackwardPass(config, head, embed, data, widths, seed, scaler, processes)
    average = WeightAverage(trained, config.average)
    done, progress = resume.load(trained, optimizers, scaler, average.weights) if resume else (0, None)
    log = TrainingLog(**progress) if progress else TrainingLog()
    report_progress(head, done / max(1, steps))
    on_step(done, log)
    yield done

    def write(line: TrainLine) -> None:
        log.lines.append(line.to_dict())
        on_line(log.lines[-1])

    trained.train()
    probe = Probe(config, head, trained, embed, data, widths, steps) if probed else None
    for probed_line in probe(done) if probe and done < steps else ():
        write(probed_line)
    for step, examples in islice(enumerate(order_of(data, step_size, steps, seed), start=1), done, None):
        started = time.perf_counter()
        rate = set_learning_rates(optimizers, config, step, steps)
        loss = torch.zeros((), device=device)
        for part, batch in enumerate(np.split(examples, config.gradient_accumulation)):
            loss += backward(batch, ("dropout", step, part))
        with record_function("optimizer"):
            processes.sum_up([loss, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
            loss /= config.gradient_accumulation
            for optimizer in optimizers:
                scaler.unscale_(optimizer)
            norm = clip_grad_norm_(parameters, config.max_grad_norm or math.inf)
            _check_finite(step, loss, norm, scaler)
            log.clipped += config.max_grad_norm is not None and norm.item() > config.max_grad_norm
            if config.optimizer.gradient_noise:
                add_gradient_noise(parameters, config.optimizer.gradient_noise, seed, step)
            for optimizer in optimizers:
                scaler.step(optimizer)
                optimizer.zero_grad()
            scaler.update()
        average.update()
        report_progress(head, step / steps)
        if step == steps:
            average.apply()
        log.losses.append(loss.item())
        log.seconds += time.perf_counter() - started
        log.examples_per_s = step * step_size / log.seconds

        if step % config.log_every == 0 or step in (1, steps):
            gradient_norm = norm.item() if torch.isfinite(norm) else None
            line: dict[str, Any] = {
                "step": step, "loss": log.losses[-1], "learning_rate": rate, "gradient_norm": gradient_norm,
                "examples_per_s": round(log.examples_per_s, 2),
            }  # fmt: skip
            if data.mix is not None and sources is not None:
                line["source_losses"] = _source_losses(data.mix.names, sources, log.losses, config.log_every)
            write(TrainLine(**line))
        if step in validate_at and (len(data.validation) or data.development):
            with average.applied():
                log.validation = validate(config, head, trained, embed, data)
            write(TrainLine(step=step, **line_of(log.validation)))
        for probed_line in probe(step) if probe else ():
            write(probed_line)
        if resume and processes.main and resume.is_due(step, steps):
            resume.save(step, trained, optimizers, scaler, asdict(log), average.weights)
        on_step(step, log)
        yield step
    return log


def to_the_end(steps: Callable[Given, Steps[Result]]) -> Callable[Given, Result]:
    """Make a function that does all the steps."""

    def all_steps(*args: Given.args, **named: Given.kwargs) -> Result:
        pausing = steps(*args, **named)
        while True:
            try:
                next(pausing)
            except StopIteration as end:
                result: Result = end.value
                return result

    return all_steps


def counted_from(first: int, steps: Steps[Result]) -> Steps[Result]:
    """Count the steps of a later stage from the end of the one before."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield first + step


train_trial = to_the_end(training_steps)
"""Train one head to the end, without pauses; see ``training_steps``."""


def _source_losses(
    names: Sequence[str], sources: np.ndarray, losses: Sequence[float], log_every: int
) -> dict[str, float]:
    """Return the mean loss of each source's steps since the last logged step; ``sources`` are those of all steps."""
    step = len(losses)
    since = max((step - 1) // log_every * log_every, min(step - 1, 1))
    found: dict[str, list[float]] = {}
    for source, loss in zip(sources[since:step].tolist(), losses[since:], strict=True):
        found.setdefault(names[source], []).append(loss)
    return {name: sum(own) / len(own) for name, own in found.items()}


def _check_finite(step: int, loss: Tensor, norm: Tensor, scaler: GradScaler) -> None:
    """Stop the trial if its numbers are lost; in fp16 a gradient may overflow occasionally, and the scale shrinks."""
    if torch.isfinite(loss) and (torch.isfinite(norm) or (scaler.is_enabled() and scaler.get_scale() > 1)):
        return
    raise TrainingFailedError(
        f"step {step}: loss {loss.item()}, gradient norm {norm.item()}; "
        "lower train.optimizer.head_lr, raise train.loss.temperature, or train in fp32"
    )
