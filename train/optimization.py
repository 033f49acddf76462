"""Optimisers and their parameter groups, the learning rate schedule, and gradient noise."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from experiment.config import TrainConfig
from experiment.seeds import torch_generator

__all__ = ["add_gradient_noise", "count_steps", "learning_rate_factor", "make_optimizers", "set_learning_rates"]

NOISE_DECAY = 0.55


def count_steps(config: TrainConfig, examples: int) -> int:
    """Return the number of optimiser steps for a number of training examples."""
    steps = config.epochs * (examples // config.examples_a_step)
    return steps if config.max_steps is None else min(steps, config.max_steps)


def make_optimizers(config: TrainConfig, head: nn.Module, trained: nn.Module) -> list[Optimizer]:
    """Make the optimisers of a trial: AdamW, or Muon for matrices and AdamW for the rest.

    Head and backbone each have their own learning rate and weight decay. Matrices decay; vectors and scalars (biases,
    norms, scales) do not. Muon's updates are scaled to the size of AdamW's, so both use the same learning rates;
    embedding tables are not treated as matrices and stay with AdamW.

    Sources: AdamW, Loshchilov and Hutter (2019); Muon, Jordan et al. (2024), scaled as by Liu et al. (2025).

    Args:
        config: The training section of the configuration.
        head: The projection head.
        trained: The module that holds every trained parameter, including the head's.
    """
    options = config.optimizer
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


def set_learning_rates(optimizers: Iterable[Optimizer], config: TrainConfig, step: int, steps: int) -> float:
    """Set every group's learning rate for a step; it depends only on the step, so training can resume anywhere.

    Args:
        optimizers: The optimisers of ``make_optimizers``.
        config: The training section of the configuration.
        step: The step's number, from 1.
        steps: Total number of steps.

    Returns:
        The head's learning rate.
    """
    warmup = math.ceil(config.warmup_ratio * steps)
    factor = learning_rate_factor(step - 1, steps, warmup, config.schedule)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
    return config.optimizer.head_lr * factor


def learning_rate_factor(step: int, steps: int, warmup: int, schedule: str) -> float:
    """Return the learning rate of step number ``step`` (from 0) as a share of its peak.

    It rises linearly to 1 over ``warmup`` steps, then stays constant, decays linearly, or decays along half a cosine;
    a decay reaches 0 one step after the last.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, steps - warmup)
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def add_gradient_noise(parameters: Sequence[nn.Parameter], strength: float, seed: int, step: int) -> None:
    """Add Gaussian noise of variance strength / step ** 0.55 to every gradient.

    Source: Neelakantan et al. (2015), with strengths 0.01, 0.3 and 1. Here it is added after clipping.

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
