"""The section ``train`` of an experiment's YAML."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from experiment.config.dataset import TrainDataset
from experiment.config.fields import Count, Fraction, NonNegative, Positive, Section
from experiment.config.loss import ContrastiveConfig, Loss

__all__ = ["OptimizerConfig", "TrainConfig"]

TrainPrecision = Literal["auto", "fp32", "bf16"]


class OptimizerConfig(Section):
    """AdamW (Loshchilov and Hutter, 2019) with one learning rate for the head and one for the backbone.

    Attributes:
        head_lr: Peak learning rate of the head.
        backbone_lr: Peak learning rate of the backbone; used with ``trainable: all``.
        weight_decay: Decoupled weight decay of matrices; biases, norms and scales have none.
        betas: Decay rates of the two moments.
        eps: Term added to the denominator.
    """

    head_lr: Positive = 1e-3
    backbone_lr: Positive = 3e-5
    weight_decay: NonNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8


class TrainConfig(Section):
    """How every trial is trained.

    Attributes:
        data: Where the (query, relevant document) pairs come from.
        trainable: ``head`` freezes the backbone, whose token states are then computed once for all trials;
            ``all`` trains both.
        epochs: Passes over the training pairs; ``max_steps`` ends them earlier.
        max_steps: Upper bound of optimiser steps; None for no bound.
        max_pairs: Upper bound of training pairs, drawn once for the experiment; None for all of them.
        batch_size: Pairs or tuples a step.
        loss: The loss and its options; a bare string is its name.
        optimizer: Optimiser and learning rates.
        schedule: How the learning rate falls after the warm-up.
        warmup_ratio: Share of the steps in which the learning rate rises from 0.
        max_grad_norm: Gradients are scaled down to this global L2 norm; None for no bound.
        precision: Arithmetic of the forward pass; weights and MaxSim sums stay in float32. ``auto`` is bf16 where the
            hardware multiplies it natively, and fp32 elsewhere.
        validation_pairs: Pairs held out of training, whole documents at a time, to watch the training.
        validations: How often a trial is validated, evenly over its steps; 0 for never.
        log_every: Steps between two lines of train.jsonl.
    """

    data: TrainDataset
    trainable: Literal["head", "all"] = "head"
    epochs: Count = 1
    max_steps: Count | None = None
    max_pairs: Count | None = None
    batch_size: Annotated[StrictInt, Field(ge=2)] = 32
    loss: Loss = ContrastiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: Fraction = 0.1
    max_grad_norm: Positive | None = 1.0
    precision: TrainPrecision = "fp32"
    validation_pairs: Annotated[StrictInt, Field(ge=0)] = 128
    validations: Annotated[StrictInt, Field(ge=0)] = 4
    log_every: Count = 10
