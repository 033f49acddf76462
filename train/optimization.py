"""The optimisers, their parameter groups, the learning rate over the steps, and noise on the gradients."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from experiment.config import TrainConfig
from experiment.seeds import torch_generator

__all__ = ["add_gradient_noise", "learning_rate_factor", "make_optimizers", "set_learning_rates"]

NOISE_DECAY = 0.55


def make_optimizers(settings: TrainConfig, head: nn.Module, trained: nn.Module) -> list[Optimizer]:
    """Make the optimisers of a trial: AdamW alone, or Muon for the matrices and AdamW for the rest.

    Head and backbone each have their learning rate and weight decay. Matrices decay; vectors and scalars (biases,
    norms, scales) do not. Muon's updates are scaled to the size of AdamW's, so the same learning rates serve both;
    embedding tables are no matrices in its sense and stay with AdamW.

    Sources: AdamW, Loshchilov and Hutter (2019); Muon, Jordan et al. (2024), scaled as by Liu et al. (2025).

    Args:
        settings: The training section of the configuration.
        head: The projection head.
        trained: The module that holds every trained parameter, the head's among them.
    """
    options = settings.optimizer
    in_head = {id(parameter) for parameter in head.parameters()}
    tables = {id(module.weight) for module in trained.modules() if isinstance(module, nn.Embedding)}
    matrices, others = [], []
    for of_head, rate, decay in (
        (True, options.head_lr, options.head_weight_decay),
        (False, options.backbone_lr, options.backbone_weight_decay),
    ):
        chosen = [p for p in trained.parameters() if p.requires_grad and (id(p) in in_head) == of_head]
        muon = [p for p in chosen if options.name == "muon" and p.ndim == 2 and id(p) not in tables]
        taken = {id(p) for p in muon}
        rest = [p for p in chosen if id(p) not in taken]
        matrices += _group(muon, rate, decay)
        others += _group([p for p in rest if p.ndim >= 2], rate, decay)
        others += _group([p for p in rest if p.ndim < 2], rate, 0.0)
    optimizers: list[Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, adjust_lr_fn="match_rms_adamw"))
    if others:
        optimizers.append(AdamW(others, betas=options.betas, eps=options.eps))
    return optimizers


def _group(parameters: list[nn.Parameter], rate: float, decay: float) -> list[dict[str, object]]:
    return [{"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}] if parameters else []


def set_learning_rates(optimizers: Iterable[Optimizer], settings: TrainConfig, step: int, steps: int) -> float:
    """Set every group's learning rate for a step; it depends on the step alone, so that any step can come next.

    Args:
        optimizers: The optimisers of ``make_optimizers``.
        settings: The training section of the configuration.
        step: The step's number, from 1.
        steps: How many there are.

    Returns:
        The head's learning rate.
    """
    warmup = math.ceil(settings.warmup_ratio * steps)
    factor = learning_rate_factor(step - 1, steps, warmup, settings.schedule)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
    return settings.optimizer.head_lr * factor


def learning_rate_factor(step: int, steps: int, warmup: int, schedule: str) -> float:
    """Return the share of the peak learning rate that step number ``step`` (from 0) is made with.

    It rises linearly over ``warmup`` steps to 1, then stays (``constant``), falls linearly, or falls along half a
    cosine, to reach 0 one step behind the last.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, steps - warmup)
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def add_gradient_noise(parameters: Sequence[nn.Parameter], strength: float, seed: int, step: int) -> None:
    """Add Gaussian noise of variance strength / step ** 0.55 to every gradient, from a stream of the seed's own.

    Source: Neelakantan et al. (2015), whose strengths are 0.01, 0.3 and 1. Here it is added behind the clipping.

    Args:
        parameters: The trained parameters.
        strength: The variance in the first step.
        seed: The trial's seed.
        step: The step's number, from 1.
    """
    generator = torch_generator(seed, "gradient noise", step)
    deviation = math.sqrt(strength / step**NOISE_DECAY)
    for parameter in parameters:
        if parameter.grad is not None:
            noise = torch.randn(parameter.shape, generator=generator) * deviation
            parameter.grad += noise.to(parameter.grad)
