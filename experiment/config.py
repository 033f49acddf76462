"""The YAML of an experiment: what can stand in it, and what each default is.

A file states only what differs from the defaults below. ``load_config`` checks the whole file at once and reports
every mistake with its line; ``dump_config`` writes the configuration with every default in place.
"""

import re
import string
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PositiveFloat,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from experiment.collections import check_source
from experiment.measures import check_measures
from projheads.build import build_head
from projheads.errors import ProjheadsError, unknown_name
from projheads.hosts.base import EncodingSettings
from projheads.init import list_inits
from projheads.registry import check_spec
from projheads.spec import HeadSpec

__all__ = [
    "DatasetRef",
    "EvalConfig",
    "ExperimentConfig",
    "HeadsConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TrainConfig",
]

Count = Annotated[StrictInt, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[PositiveFloat, Field(allow_inf_nan=False)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
TrainPrecision = Literal["auto", "fp32", "bf16"]


def _spec(value: Any) -> HeadSpec:
    if not isinstance(value, str | HeadSpec):
        raise ValueError(f'write a head as one string, for example "ffn(depth=2)"; got {value!r}')
    return check_spec(value)


class _SpecAsText:
    """Tells pydantic that a head is read from its text form and written as it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(str)
        return core_schema.no_info_plain_validator_function(_spec, serialization=written)


Spec = Annotated[HeadSpec, _SpecAsText]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _safe_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(f'"{value}" names a file, so it may hold letters, digits, ".", "_" and "-" only')
    return value


class DatasetRef(_Section):
    """A collection and one of its splits. A bare string in the YAML is its ``source``.

    Attributes:
        source: ``pydocs``, ``beir:<name>``, ``hf:<repo>[/<config>]``, or a folder in BEIR layout.
        split: Which judgements are used.
        name: Name in tables and of result files; made from the source where it is not given.
    """

    source: str
    split: str
    name: Annotated[str, AfterValidator(_safe_name)]

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        check_source(source)
        return source


def _dataset(split: str) -> BeforeValidator:
    def complete(value: Any) -> Any:
        if isinstance(value, str):
            value = {"source": value}
        if isinstance(value, dict) and isinstance(value.get("source"), str):
            value = {"split": split, "name": _default_name(value["source"]), **value}
        return value

    return BeforeValidator(complete)


def _default_name(source: str) -> str:
    stem = source.split(":", 1)[1] if re.match(r"(beir|hf):", source) else Path(source).name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "dataset"


TrainDataset = Annotated[DatasetRef, _dataset("train")]
EvalDataset = Annotated[DatasetRef, _dataset("test")]


class ModelConfig(_Section):
    """The backbone and how it reads texts; see ``projheads.hosts.base.EncodingSettings`` for the fields they share."""

    host: Literal["auto", "pylate", "sentence-transformers"] = "auto"
    backbone: str = "sentence-transformers/all-MiniLM-L6-v2"
    revision: str | None = None
    query_length: Count = 32
    document_length: Count = 180
    query_prefix: str = "[Q] "
    document_prefix: str = "[D] "
    query_expansion: StrictBool = True
    attend_to_expansion_tokens: StrictBool = False
    skiplist: tuple[str, ...] = tuple(string.punctuation)
    trust_remote_code: StrictBool = False

    def settings(self) -> EncodingSettings:
        """Return the part that the host adapter asks for."""
        return EncodingSettings(**self.model_dump(exclude={"host", "backbone"}))


class HeadsConfig(_Section):
    """The heads that are compared.

    Attributes:
        out_features: Width of a token embedding.
        init: Initialisation scheme of every head; see ``projheads.init.list_inits``.
        baseline: The variant that the others are compared with, as it stands in ``variants``.
        variants: The heads, each as a spec such as ``ffn(depth=2, activation="gelu")`` or a preset's name.
    """

    out_features: Count = 128
    init: str = "torch"
    baseline: Spec = HeadSpec("linear")
    variants: Annotated[tuple[Spec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.init not in list_inits():
            raise unknown_name("init", self.init, list_inits())
        labels = [str(spec) for spec in self.variants]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"the variant {label} stands twice; keep one of them")
        if str(self.baseline) not in labels:
            raise ValueError(f"the baseline {self.baseline} is not among the variants; add it, or set heads.baseline")
        return self

    @field_validator("variants")
    @classmethod
    def _buildable(cls, variants: tuple[HeadSpec, ...]) -> tuple[HeadSpec, ...]:
        problems = []
        for spec in variants:
            try:
                build_head(spec, 768, 128)
            except ProjheadsError as error:
                problems.append(f"{spec}: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return variants


class OptimizerConfig(_Section):
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


class TrainConfig(_Section):
    """How every trial is trained.

    Attributes:
        data: Where the (query, relevant document) pairs come from.
        trainable: ``head`` freezes the backbone, whose token states are then computed once for all trials;
            ``all`` trains both.
        epochs: Passes over the training pairs; ``max_steps`` ends them earlier.
        max_steps: Upper bound of optimiser steps; None for no bound.
        max_pairs: Upper bound of training pairs, drawn once for the experiment; None for all of them.
        batch_size: Pairs a step; each query has the other pairs' documents as negatives.
        temperature: Divides the MaxSim scores in front of the softmax.
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
    temperature: Positive = 1.0
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: Fraction = 0.1
    max_grad_norm: Positive | None = 1.0
    precision: TrainPrecision = "fp32"
    validation_pairs: Annotated[StrictInt, Field(ge=0)] = 128
    validations: Annotated[StrictInt, Field(ge=0)] = 4
    log_every: Count = 10


class EvalConfig(_Section):
    """How every trial is evaluated.

    Attributes:
        datasets: Collections to search.
        index: ``exact`` scores every document, a FAISS factory string builds that index over the token vectors,
            ``auto`` chooses by the size of the corpus.
        nprobe: Lists that an inverted-file index visits; None for a sixteenth of them, at least 8.
        candidates_per_token: Token vectors that the index returns for each query token.
        depth: Documents kept for each query.
        measures: ir-measures expressions; the first is the one that verdicts are about.
        references: Rows that tell whether the numbers are sane: BM25, the backbone's token states without a head, and
            the baseline head before training.
        precision: Arithmetic of the backbone and the head; ``auto`` as in training.
        batch_tokens: Tokens that the backbone encodes at once.
    """

    datasets: Annotated[tuple[EvalDataset, ...], Field(min_length=1)]
    index: str = "auto"
    nprobe: Count | None = None
    candidates_per_token: Count = 256
    depth: Count = 100
    measures: Annotated[tuple[str, ...], Field(min_length=1)] = ("nDCG@10", "R@100", "RR@10")
    references: tuple[Literal["bm25", "backbone", "untrained"], ...] = ("bm25", "backbone", "untrained")
    precision: Precision = "fp32"
    batch_tokens: Count = 8192

    @field_validator("datasets")
    @classmethod
    def _distinct(cls, datasets: tuple[DatasetRef, ...]) -> tuple[DatasetRef, ...]:
        names = [dataset.name for dataset in datasets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two data sets are called "{name}"; give one of them another `name`')
        return datasets

    @field_validator("measures")
    @classmethod
    def _known(cls, measures: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "depth" in info.data:
            check_measures(measures, depth=info.data["depth"])
        return measures


class ExperimentConfig(_Section):
    """One experiment: its trials, their evaluation and its report.

    Attributes:
        name: Name of the experiment; the file's name where it is not given.
        description: One sentence for the report.
        output: Folder of the results; ``outputs/<name>`` where it is not given.
        cache: Folder of what experiments share: collections and token states.
        seeds: One trial is trained for each variant and each of these.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
        threads: CPU threads; None leaves the number to torch. More or fewer may change the last bits of a result.
        model: The backbone.
        heads: The heads.
        train: The training.
        eval: The evaluation.
    """

    name: Annotated[str, AfterValidator(_safe_name)]
    description: str = ""
    output: Path
    cache: Path = Path("outputs/.cache")
    seeds: Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    threads: Count | None = None
    model: ModelConfig = ModelConfig()
    heads: HeadsConfig
    train: TrainConfig
    eval: EvalConfig

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands twice; keep one of them")
        return seeds
