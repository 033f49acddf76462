"""The section ``train`` of an experiment's YAML."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from experiment.config.train_data_section import TrainData
from experiment.fields import UNUSED_AT_DEFAULT, Count, Fraction, NonNegative, OneOf, Positive, Precision, Section
from experiment.losses import LOSSES, Contrastive, Loss

__all__ = ["OptimizerConfig", "Tracker", "TrainConfig"]

Tracker = Literal["tensorboard", "wandb", "trackio"]


class OptimizerConfig(Section):
    """The optimiser, with separate learning rates and weight decays for the head and the backbone.

    Attributes:
        name: ``adamw`` (Loshchilov and Hutter, 2019), or ``muon`` (Jordan et al., 2024): Muon for the matrices, at the
            same learning rates as AdamW, which updates embedding tables and vectors.
        head_lr: Peak learning rate of the head.
        backbone_lr: Peak learning rate of the backbone, if it is trained.
        head_weight_decay: Decoupled weight decay of the head's matrices; biases, norms and scales have none.
        backbone_weight_decay: The same for the backbone, if it is trained.
        betas: Decay rates of AdamW's two moments.
        eps: Term added to AdamW's denominator.
        gradient_noise: Variance of the Gaussian noise added to the gradients in the first step, which decays afterwards
            (Neelakantan et al., 2015); None for no noise.
    """

    name: Literal["adamw", "muon"] = "adamw"
    head_lr: Positive = 1e-3
    backbone_lr: Positive = 3e-5
    head_weight_decay: NonNegative = 0.0
    backbone_weight_decay: NonNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    gradient_noise: Positive | None = None


class TrainConfig(Section):
    """How every trial is trained.

    Attributes:
        data: Where the examples come from: pairs of a query and a relevant document, or tuples with hard negatives.
        trainable: ``head`` freezes the backbone, whose token states are then computed once for all trials;
            ``top-<k>`` trains the head and the last k layers, and the output of the layers below is computed once;
            ``all`` trains everything.
        epochs: Passes over the examples, unless ``max_steps`` is reached first.
        max_steps: Maximum number of optimiser steps; None for no limit.
        max_pairs: Maximum number of examples, pairs or tuples, drawn once for the experiment; None for all of them.
        corrupt: Share of the training examples whose relevant document is replaced by that of another one, drawn once
            for the experiment: how robust is a head to wrong pairs?
        batch_size: Examples whose documents are each other's negatives.
        gradient_accumulation: Batches whose gradients are summed for one step.
        mini_batch_size: Texts that are embedded at once. It bounds memory, instead of the batch size, at the cost of
            one more forward pass; the loss is still that of the complete batch (GradCache, Gao et al., 2021). None
            embeds the batch at once.
        gradient_checkpointing: Whether the backbone's activations are recomputed in the backward pass, which takes less
            memory and more time; the numbers stay the same.
        compile: Whether backbone and head are compiled by torch.compile; the last bits change, and dropout is drawn
            differently.
        loss: The loss and its options; a string is short for its name.
        optimizer: Optimiser and learning rates.
        schedule: How the learning rate falls after the warm-up.
        warmup_ratio: Share of the steps during which the learning rate rises from 0.
        max_grad_norm: Gradients are clipped to this global L2 norm; None for no clipping.
        average: Decay of an exponential moving average of the trained weights, updated after every step, which is
            validated and saved instead of the last weights; None for the last weights.
        precision: Arithmetic of the forward pass; weights and MaxSim sums stay in float32. ``auto`` is bf16 if the
            hardware multiplies it natively, otherwise fp32. ``fp16`` scales the loss, and skips steps whose gradients
            overflow.
        validation_pairs: Pairs held out of training, with all pairs of their documents, to monitor it.
        validations: Number of validations of a trial, spaced evenly over its steps.
        log_every: Steps between two lines of train.jsonl.
        resume_every: Steps between two resume points, from which a stopped trial resumes.
        trackers: Where the lines of train.jsonl are also logged, through accelerate.
    """

    data: TrainData
    trainable: Annotated[str, Field(pattern=r"^(head|top-[1-9][0-9]*|all)$")] = "head"
    epochs: Count = 1
    max_steps: Count | None = None
    max_pairs: Count | None = None
    corrupt: Annotated[Fraction, UNUSED_AT_DEFAULT] = 0.0
    batch_size: Annotated[StrictInt, Field(ge=2)] = 32
    gradient_accumulation: Count = 1
    mini_batch_size: Count | None = None
    gradient_checkpointing: StrictBool = False
    compile: StrictBool = False
    loss: Annotated[Loss, OneOf("loss", LOSSES, default="contrastive")] = Contrastive()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: Fraction = 0.1
    max_grad_norm: Positive | None = 1.0
    average: Annotated[Fraction | None, UNUSED_AT_DEFAULT] = None
    precision: Precision = "fp32"
    validation_pairs: Annotated[StrictInt, Field(ge=0)] = 128
    validations: Annotated[StrictInt, Field(ge=0)] = 4
    log_every: Count = 10
    resume_every: Count = 500
    trackers: tuple[Tracker, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if isinstance(values, dict) and "checkpoint_every" in values:
            raise ValueError("checkpoint_every is now called resume_every; rename the key")
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gradient_checkpointing and self.trainable == "head":
            raise ValueError("gradient_checkpointing needs a trained backbone; set `trainable` too, or remove it")
        if self.loss.needs_teacher and self.corrupt:
            raise ValueError(f"corrupt exchanges documents, for which the loss {self.loss.name} has no teacher scores")
        if self.loss.needs_teacher and self.data.tuples is None:
            raise ValueError(
                f"the loss {self.loss.name} needs teacher scores, which the pairs of a collection do not have; set "
                "train.data.tuples, or use `loss: contrastive`"
            )
        return self

    @property
    def trained_layers(self) -> int | None:
        """Number of the backbone's last layers that are trained; None for all of them."""
        return None if self.trainable == "all" else int(self.trainable.removeprefix("top-").replace("head", "0"))
