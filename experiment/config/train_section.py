"""The section ``train`` of an experiment's YAML."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, ValidationError, model_validator

from experiment.config.train_data_section import TrainData
from experiment.config.validation_section import Validation, with_sources
from experiment.fields import (
    MOST,
    UNUSED_AT_DEFAULT,
    Count,
    Fraction,
    NonNegative,
    OneOf,
    Positive,
    Precision,
    Rate,
    Section,
)
from experiment.losses import LOSSES, Contrastive, Loss

__all__ = ["LoraSection", "OptimizerConfig", "Tracker", "TrainConfig"]

FOR_ALL_STAGES = (
    "trainable",
    "lora",
    "gradient_checkpointing",
    "compile",
    "states",
    "precision",
    "validation",
    "log_every",
    "resume_every",
    "trackers",
    "next_stages",
)
"""Settings that a later stage cannot change."""

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
    head_lr: Rate = 1e-3
    backbone_lr: Rate = 3e-5
    head_weight_decay: NonNegative = 0.0
    backbone_weight_decay: NonNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    gradient_noise: Positive | None = None


class LoraSection(Section):
    """Low-rank adapters on the backbone (Hu et al., 2021), trained with the complete head.

    Attributes:
        rank: Rank of an adapter.
        alpha: An adapter's output is scaled by ``alpha / rank``.
        dropout: Dropout before an adapter.
        targets: Names of the matrices that have one, such as ``[query, value]``; ``all-linear`` for all of them.
        save: ``merged`` adds the adapters to the weights of the saved model; ``adapter`` saves them instead of the
            backbone, in peft's format. Such a model opens where projheads, peft and the backbone are.
    """

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Fraction = 0.0
    targets: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        Field(min_length=1),
    ] = ("all-linear",)
    save: Annotated[Literal["merged", "adapter"], UNUSED_AT_DEFAULT] = "merged"


class TrainConfig(Section):
    """How every trial is trained.

    Attributes:
        data: Where the examples come from: pairs of a query and a relevant document, or tuples with hard negatives.
        trainable: ``head`` freezes the backbone, whose token states are then computed once for all trials;
            ``top-<k>`` trains the head and the last k layers, and the output of the layers below is computed once;
            ``all`` trains everything.
        states: What becomes of a frozen backbone's token states. ``stored`` computes them once and keeps them on disk;
            ``lockstep`` trains the trials of a seed side by side, computes the states of a few steps at a time for
            all of them, and stores none; ``auto`` chooses by the disk space that is needed, and prints why. A folder's
            trials stay with the way in which the first was trained.
        lora: Train low-rank adapters instead of the backbone's weights, at ``optimizer.backbone_lr``; needs peft and
            ``trainable: all``. None trains the weights.
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
        max_grad_norm: Gradients are clipped to this global L2 norm; None for no clipping. The study gained
            nothing with 30 instead of 1 (``results/study/tables.md``).
        average: Decay of an exponential moving average of the trained weights, updated after every step, which is
            validated and saved instead of the last weights; None for the last weights.
        precision: Arithmetic of the forward pass; weights and MaxSim sums stay in float32. ``auto`` is bf16 where the
            hardware multiplies it faster than fp32, otherwise fp32, and stays what it was for the trials that are
            finished. ``fp16`` scales the loss, and skips steps whose gradients overflow.
        validation: Development queries that are ranked over their corpus at each validation, and by which a sweep
            chooses: of one collection or of a list, whose mean scores then count equally. Without them, it chooses by
            held-out pairs.
        validation_pairs: Pairs held out of training, with all pairs of their documents, to monitor it.
        validations: Number of validations of a trial, spaced evenly over its steps.
        log_every: Steps between two lines of train.jsonl.
        resume_every: Steps between two resume points, from which a stopped trial resumes.
        trackers: Where the lines of train.jsonl are also logged, through accelerate.
        next_stages: Stages of training that follow, each written as the settings in which it differs from the first:
            ``[{data: taught.jsonl, loss: kl, epochs: 1}]``. Each has its own optimiser and schedule.
    """

    data: TrainData
    trainable: Annotated[str, Field(pattern=r"^(head|top-[1-9][0-9]*|all)$")] = "head"
    states: Annotated[Literal["auto", "stored", "lockstep"], UNUSED_AT_DEFAULT] = "auto"
    lora: Annotated[LoraSection | None, UNUSED_AT_DEFAULT] = None
    epochs: Count = 1
    max_steps: Count | None = None
    max_pairs: Count | None = None
    corrupt: Annotated[Fraction, UNUSED_AT_DEFAULT] = 0.0
    batch_size: Annotated[StrictInt, Field(ge=2, le=MOST)] = 32
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
    validation: Annotated[Validation, UNUSED_AT_DEFAULT] = ()
    validation_pairs: Annotated[StrictInt, Field(ge=0, le=MOST)] = 128
    validations: Annotated[StrictInt, Field(ge=0, le=10_000)] = 4
    log_every: Count = 10
    resume_every: Count = 500
    trackers: tuple[Tracker, ...] = ()
    next_stages: Annotated[tuple[dict[str, Any], ...], UNUSED_AT_DEFAULT] = ()

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
        if self.states == "lockstep" and self.trainable != "head":
            raise ValueError("states: lockstep needs a frozen backbone; set `trainable: head`, or remove `states`")
        if self.lora is not None and self.trainable != "all":
            raise ValueError("lora adapts the backbone, which is frozen; set `trainable: all`, or remove `lora`")
        if self.loss.needs_teacher and self.corrupt:
            raise ValueError(f"corrupt exchanges documents, for which the loss {self.loss.name} has no teacher scores")
        if self.loss.needs_teacher and any(part.tuples is None for part in self.data.parts):
            raise ValueError(
                f"the loss {self.loss.name} needs teacher scores, which the pairs of a collection do not have; set "
                "train.data.tuples, or use `loss: contrastive`"
            )
        object.__setattr__(self, "validation", with_sources(self.validation, self.data))
        self.following()
        return self

    def following(self) -> "tuple[TrainConfig, ...]":
        """Return the settings of the stages that follow.

        Raises:
            ValueError: If one of them has a mistake.
        """
        return tuple(self._stage(number, changes) for number, changes in enumerate(self.next_stages))

    def _stage(self, number: int, changes: dict[str, Any]) -> "TrainConfig":
        settings = self.model_dump(mode="json") | {"next_stages": []}
        for key, value in changes.items():
            if key in FOR_ALL_STAGES:
                raise ValueError(f"next_stages.{number}.{key}: is the same for all stages; set train.{key}")
            merged = key == "optimizer" and isinstance(value, dict)
            settings[key] = settings[key] | value if merged else value
        try:
            return TrainConfig.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in ("next_stages", number, *first["loc"]))
            raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None

    @property
    def examples_a_step(self) -> int:
        """Examples that one step of the optimiser sees."""
        return self.batch_size * self.gradient_accumulation

    @property
    def trained_layers(self) -> int | None:
        """Number of the backbone's last layers that are trained; None for all of them."""
        return None if self.trainable == "all" else int(self.trainable.removeprefix("top-").replace("head", "0"))
