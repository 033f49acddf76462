"""``trial.json``, its sweep, and the lines of ``train.jsonl``, which training writes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from experiment.disk.record import Part, Record, mistake
from projheads.errors import ProjheadsError

__all__ = [
    "FinalLoss",
    "ProbePoint",
    "SweepPoint",
    "SweepRecord",
    "TrainLine",
    "TrainTimings",
    "TrialRecord",
    "axis_text",
    "read_train_lines",
    "row_label",
]


class FinalLoss(Part):
    """How the training ended.

    Attributes:
        loss: Mean loss over the last tenth of the steps.
        clipped: Share of the steps whose gradient was clipped, from 0 to 1; null in older files.
    """

    loss: float
    clipped: float | None = None


class TrainTimings(Part):
    """How long a training took; null for a model that was not trained here.

    Attributes:
        train_s: Seconds of the training steps, without validation.
        examples_per_s: Pairs or tuples trained on per second.
    """

    train_s: float | None = None
    examples_per_s: float | None = None


class SweepPoint(Part):
    """One point of the grid.

    Attributes:
        values: The value of each key.
        seeds: The score of each swept seed by the sweep's measure; null if its training failed.
        reasons: Why the training of a seed failed.
    """

    values: dict[str, Any]
    seeds: dict[str, float | None]
    reasons: dict[str, str] = {}


class SweepRecord(Part):
    """The sweep of one variant, as each of its trials records it.

    Attributes:
        measure: What the points were chosen by.
        grid: The values of each key, with those by which the grid has grown.
        chosen: The value of each key that this trial's seed uses: what the other swept seeds choose, or all of them if
            it is not one of them; null if training failed at every point.
        chosen_by_all: What all swept seeds choose together; null if training failed at every point, and in older files.
        at_edge: The keys whose value, in what all swept seeds choose, is the smallest or largest of the grid.
        points: Every point that was tried.
    """

    measure: str
    grid: dict[str, list[Any]]
    chosen: dict[str, Any] | None
    chosen_by_all: dict[str, Any] | None = None
    at_edge: list[str] = []
    points: list[SweepPoint]

    @property
    def by_held_out_pairs(self) -> bool:
        """Whether held-out pairs chose, rather than development queries."""
        return self.measure.endswith("held-out pairs")


class TrialRecord(Record):
    """``trial.json``: what a trial is, how its training went, and what it cost.

    A model that was given to ``python -m eval --model`` has one too, in which the facts of its training are null.

    Attributes:
        schema_version: Version of this file.
        status: Whether the training finished or failed.
        error: Why it failed, in one line.
        label: The variant, as the configuration writes it.
        slug: The variant's folder.
        axes: The value of each setting that the experiment compares, at this trial's point; empty without axes.
        checkpoint: The model as it was given to ``python -m eval --model``; null for a trial.
        head: The head's registry name and options; null if the model's head is not a registered one.
        head_files: Hash of each file outside projheads that defines the head.
        is_baseline: Whether the other variants are compared with this one.
        seed: The seed; 0 for a given model.
        in_features: Width of the backbone's token states.
        out_features: Width of the token embeddings.
        matryoshka: The widths that the loss was averaged over; null if it was computed at full width only.
        init: How the head was initialised.
        start_group: Trials of one group and seed start as the same map; null for a group of the label's own.
        trainable: Whether the head was trained, or the backbone as well.
        states: Whether the token states of a frozen backbone were ``stored``, or computed in ``lockstep``; null in
            older records, where they were stored.
        key: Hash of everything that the result depends on.
        config_hash: Hash of the resolved configuration.
        data_hash: Hash of the training data.
        weights_hash: Hash of the saved model; null if the training failed.
        backbone: The backbone, as the configuration names it.
        host: The library that opens the model.
        versions: Versions of the packages.
        device: What it was trained on.
        precision: What it was trained in.
        parameters: Parameters of the head.
        multiply_adds: Multiply-adds of the head for one token, as trained.
        inference_multiply_adds: The same for its cheapest equal form; null in older records.
        folds: Whether the head folds to one matrix.
        steps: Optimiser steps.
        learning_rate: Peak learning rate of the head.
        train: How the training ended; null if it failed.
        validation: Measures on the held-out pairs and the development queries after the last step; null without
            either.
        timings: How long it took.
        peak_memory_bytes: Peak memory: of tensors on a GPU, otherwise of the process.
        sweep: The sweep that chose this trial's point; null without one.
    """

    written_by: ClassVar[str] = "python -m train (for a given model: python -m eval)"

    status: Literal["finished", "failed"]
    error: str | None = None
    label: str
    slug: str
    axes: dict[str, Any] = {}
    checkpoint: str | None = None
    head: dict[str, Any] | None = None
    head_files: dict[str, str] = {}
    is_baseline: bool
    seed: int
    in_features: int
    out_features: int
    matryoshka: list[int] | None = None
    init: str | None = None
    start_group: str | None = None
    trainable: str | None = None
    states: Literal["stored", "lockstep"] | None = None
    key: str | None = None
    config_hash: str | None = None
    data_hash: str | None = None
    weights_hash: str | None
    backbone: str | None = None
    host: str
    versions: dict[str, str] = {}
    device: str | None = None
    precision: str | None = None
    parameters: int
    multiply_adds: int
    inference_multiply_adds: int | None = None
    folds: bool
    steps: int | None = None
    learning_rate: float | None = None
    train: FinalLoss | None = None
    validation: dict[str, float] | None = None
    timings: TrainTimings = TrainTimings()
    peak_memory_bytes: int | None = None
    sweep: SweepRecord | None = None

    @model_validator(mode="after")
    def _finished_with_a_model(self) -> Self:
        if (self.status == "finished") != (self.weights_hash is not None):
            raise ValueError(f"weights_hash: does not agree with the status {self.status}")
        return self


def row_label(variant: str, axes: Mapping[str, Any]) -> str:
    """Name a row of the leaderboard: the variant, and its point of the axes: ``linear @ max_pairs=400``."""
    values = [f"{key.rpartition('.')[2]}={axis_text(value)}" for key, value in axes.items()]
    return f"{variant} @ {', '.join(values)}" if values else variant


def axis_text(value: Any) -> str:
    """Write a value of an axis."""
    return value if isinstance(value, str) else json.dumps(value)


class ProbePoint(Part):
    """How gradients flow through the head at one point of the training, on a fixed probe batch.

    Attributes:
        when: ``start`` (before the first step), ``middle`` or ``end`` (after the last step).
        winners: Share of the tokens of relevant documents that win some token of their query.
        winners_in_batch: Share of the tokens of all documents that win some token of any query of the batch.
        gini: Gini coefficient of the number of wins of a token of a relevant document, for its own query.
        changed: Share of the query tokens that the next step gives a different winner in the relevant document; at the
            end, the last step.
        gradient_rank: Effective rank of the gradient of the head's map.
        gradient_energy: Share of that gradient's squared norm in its top 1, 8 and 32 directions.
        map_rank: Effective rank of the head's map.
        alignment: Cosines between the second moments of the head's outputs (R), of their gradients (G), and W W^T (W).
    """

    when: Literal["start", "middle", "end"]
    winners: float
    winners_in_batch: float
    gini: float
    changed: float | None
    gradient_rank: float | None
    gradient_energy: dict[str, float]
    map_rank: float
    alignment: dict[str, float]


class TrainLine(Part):
    """``train.jsonl``: one line per logged step or validation; a line has only the fields of its kind.

    Attributes:
        step: The optimiser step, from 1; 0 for a probe before the first.
        loss: Its loss.
        learning_rate: The head's learning rate.
        gradient_norm: Norm of the gradient before clipping; null if it overflowed in fp16.
        examples_per_s: Pairs or tuples trained on per second so far.
        stage: The stage, from 1; only with several stages.
        source_losses: In a mix, the mean loss of each source's steps since the line before.
        validation_loss: Contrastive loss on the held-out pairs.
        validation_accuracy: Share of held-out queries whose relevant document ranks first.
        validation_ndcg: nDCG@10 on the held-out pairs.
        development_ndcg: nDCG@10 on the development queries; with several collections, the mean over them.
        development: With several collections, nDCG@10 on the development queries of each.
        probe: How gradients flow; only with ``eval.explain``.
    """

    step: int
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    examples_per_s: float | None = None
    stage: int | None = None
    source_losses: dict[str, float] | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    validation_ndcg: float | None = Field(default=None, alias="validation_nDCG@10")
    development_ndcg: float | None = Field(default=None, alias="development_nDCG@10")
    development: dict[str, float] | None = None
    probe: ProbePoint | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the line's JSON value, which has only the fields that were given."""
        return self.model_dump(by_alias=True, exclude_unset=True)


def read_train_lines(path: Path) -> list[TrainLine]:
    """Read ``train.jsonl``; no lines if it does not exist.

    Raises:
        ProjheadsError: If a line is damaged.
    """
    repair = "delete the trial's folder and train again"
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ProjheadsError(f"{path}: cannot be read ({error.strerror}); {repair}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(TrainLine.model_validate_json(line))
        except ValidationError as error:
            raise ProjheadsError(f"{path}, line {number}: {mistake(error)}; {repair}") from None
    return found
