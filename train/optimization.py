"""The optimiser, its parameter groups and its learning rate over the steps."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from experiment.config import TrainConfig

__all__ = ["learning_rate_factor", "make_optimizer", "make_scheduler"]


def make_optimizer(settings: TrainConfig, head: nn.Module, backbone: Iterable[nn.Parameter]) -> AdamW:
    """Make AdamW with a learning rate for the head and one for the backbone.

    Matrices decay; vectors and scalars (biases, norms, scales) do not.

    Args:
        settings: The training section of the configuration.
        head: The projection head.
        backbone: The backbone's parameters that are trained; none where it is frozen.
    """
    options = settings.optimizer
    groups = []
    for parameters, rate in ((list(head.parameters()), options.head_lr), (list(backbone), options.backbone_lr)):
        for decay, chosen in (
            (options.weight_decay, [parameter for parameter in parameters if parameter.ndim >= 2]),
            (0.0, [parameter for parameter in parameters if parameter.ndim < 2]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return AdamW(groups, betas=options.betas, eps=options.eps)


def make_scheduler(settings: TrainConfig, optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """Make the schedule that multiplies every group's learning rate by ``learning_rate_factor``."""
    warmup = math.ceil(settings.warmup_ratio * steps)
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, warmup, settings.schedule))


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
