"""The JSON files of an experiment, one class each: training and evaluation write them, both and the report read them.

Every field is written, null if it does not apply. A field added later has a default, so older files can be read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from experiment.disk.record import Part, Record, mistake
from projheads.errors import ProjheadsError

__all__ = [
    "CandidateRecall",
    "DatasetFacts",
    "EvaluationBytes",
    "EvaluationRecord",
    "EvaluationTimings",
    "ExplainRecord",
    "FinalLoss",
    "Finding",
    "IndexFacts",
    "LookRecord",
    "LookState",
    "Meaning",
    "ProbePoint",
    "QueriesRecord",
    "QueryFacts",
    "ReferenceRecord",
    "RoundsRecord",
    "StandIn",
    "StandInStates",
    "StorageEntry",
    "SweepPoint",
    "SweepRecord",
    "TextCounts",
    "TextsRecord",
    "TrainLine",
    "TrainTimings",
    "TrialRecord",
    "WordsRecord",
    "axis_text",
    "read_train_lines",
    "row_label",
]

Count = Annotated[int, Field(ge=0)]
Scores = Annotated[dict[str, float], Field(min_length=1)]


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
        development_ndcg: nDCG@10 on the development queries.
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


class ReferenceRecord(Record):
    """``reference.json``: what a reference row is.

    Attributes:
        schema_version: Version of this file.
        name: ``bm25``, ``backbone`` or ``untrained``.
        description: What it is, in one sentence.
        seed: The seed of an untrained model, 0 for the others.
        key: Hash of everything that an untrained model depends on; null for the others.
        weights_hash: Hash of an untrained model; null for the others.
    """

    written_by: ClassVar[str] = "python -m train and python -m eval"

    name: str
    description: str
    seed: int
    key: str | None = None
    weights_hash: str | None = None


class DatasetFacts(Part):
    """The data set of an evaluation.

    Attributes:
        name: Its name in the configuration, and of the evaluation's files.
        source: Where it comes from.
        split: Which of its splits.
        group: The data set that it is a part of, as the forums are of CQADupStack; null if it counts alone.
        hash: Hash of its content.
        documents: Number of documents.
        queries: Number of judged queries.
        notes: Oddities of the content, counted.
    """

    name: str
    source: str
    split: str
    group: str | None = None
    hash: str
    documents: Count
    queries: Count
    notes: dict[str, int] = {}


class CandidateRecall(Part):
    """How much of an exact search's result an approximate search found.

    Attributes:
        at: Documents of the exact search that count, per query.
        value: The share of them that was found, mean over queries.
        queries: Queries that it was measured on.
    """

    at: int
    value: float
    queries: int


class IndexFacts(Part):
    """How an evaluation searched; what does not apply to the kind is null.

    Attributes:
        kind: ``exact``, ``faiss`` or ``bm25``.
        depth: Documents kept per query.
        factory: FAISS's description of the index.
        nprobe: Inverted lists visited per query token.
        candidates_per_token: Token vectors retrieved per query token.
        max_candidates: Documents scored per query.
        candidate_recall: How much of an exact search's result was found.
    """

    kind: str
    depth: int
    factory: str | None = None
    nprobe: int | None = None
    candidates_per_token: int | None = None
    max_candidates: int | None = None
    candidate_recall: CandidateRecall | None = None


class EvaluationTimings(Part):
    """How long each phase took, in seconds.

    Attributes:
        encode_s: Encoding of queries and documents.
        index_s: Building the index.
        search_s: Search.
    """

    encode_s: float
    index_s: float
    search_s: float


class EvaluationBytes(Part):
    """What was kept, in bytes.

    Attributes:
        token_vectors: The documents' token embeddings.
        index: The index; 0 without one.
    """

    token_vectors: Count
    index: Count


class TextCounts(Part):
    """How many texts were longer than the model's maximum length.

    Attributes:
        queries: Queries.
        documents: Documents.
    """

    queries: Count
    documents: Count


class StandInStates(Part):
    """The token states that a linear stand-in was fitted on.

    Attributes:
        fitted: Number of states that it was fitted on.
        held_out: Number of states that ``r2`` and ``mean_cosine`` were measured on.
    """

    fitted: Count
    held_out: Count


class StandIn(Part):
    """The linear map that comes closest to a non-linear head, evaluated in its place.

    Attributes:
        r2: Share of the head's variance that it explains, on held-out states.
        mean_cosine: Mean cosine of its outputs with the head's, on held-out states.
        fitted_on: Which texts the states are of.
        states: How many states.
        measures: For each measure the score of each query.
        means: For each measure the mean over queries.
    """

    r2: float
    mean_cosine: float
    fitted_on: str
    states: StandInStates
    measures: dict[str, Scores]
    means: dict[str, float]


class StorageEntry(Part):
    """An evaluation with the token vectors stored in one form, or with a further search.

    Attributes:
        key: Hash of everything that it depends on.
        bytes_per_vector: Bytes of a document's token vector; of its one vector for a fixed-dimensional encoding.
        index_bytes: Bytes of all documents' vectors, and of what is needed to read or search them.
        measures: For each measure the mean over queries.
        per_query: For the first measure the score of each query.
        recall: Share of the documents that the evaluation itself found that this one found too; null if unknown.
        search: Whether it is a further search, not a form of storage.
        sample: Number of documents that the form was fitted on; null for all of them.
    """

    key: str
    bytes_per_vector: Count
    index_bytes: Count
    measures: dict[str, float]
    per_query: Scores
    recall: float | None = None
    search: bool = False
    sample: Count | None = None


class EvaluationRecord(Record):
    """``eval/<dataset>.json``: a trial or reference row on one data set.

    Attributes:
        schema_version: Version of this file.
        key: Hash of everything that the result depends on.
        dataset: The data set.
        index: How it was searched.
        measures: For each measure the score of each query, unrounded.
        means: For each measure the mean over queries.
        timings: How long it took.
        bytes: What was kept.
        versions: Versions of the packages.
        truncated: Texts that were longer than the model's maximum length.
        linearised: The linear stand-in of a non-linear head; null if there is none.
        storage: The evaluation in each form in which token vectors were stored, and with each further search.
    """

    written_by: ClassVar[str] = "python -m eval"

    key: str
    dataset: DatasetFacts
    index: IndexFacts
    measures: Annotated[dict[str, Scores], Field(min_length=1)]
    means: dict[str, float]
    timings: EvaluationTimings
    bytes: EvaluationBytes
    versions: dict[str, str] = {}
    truncated: TextCounts
    linearised: StandIn | None = None
    storage: dict[str, StorageEntry] = {}

    @model_validator(mode="after")
    def _same_queries(self) -> Self:
        first = next(iter(self.measures.values())).keys()
        scored = {f"measures.{name}": scores for name, scores in self.measures.items()}
        scored |= {f"storage.{name}.per_query": form.per_query for name, form in self.storage.items()}
        if self.linearised is not None:
            scored |= {f"linearised.measures.{name}": scores for name, scores in self.linearised.measures.items()}
        for where, scores in scored.items():
            if scores.keys() != first:
                raise ValueError(f"{where}: scores other queries than measures.{next(iter(self.measures))}")
        return self

    @property
    def queries(self) -> list[str]:
        """The ids of the judged queries."""
        return list(next(iter(self.measures.values())))


class Meaning(Part):
    """What a diagnostic is, for readers.

    Attributes:
        title: Its heading.
        group: The part of the page that it belongs to.
        formula: Its formula.
        range: The smallest and the largest possible value; null for no limit.
        high: What high values mean, in one sentence.
        low: What low values mean, in one sentence.
        source: Where the formula comes from.
        alarm: What a variant is called whose mean is beyond ``above`` or ``below``; empty for a diagnostic without one.
        above: Means above this are alarming; null for none.
        below: Means below this are alarming; null for none.
    """

    title: str
    group: str
    formula: str
    range: tuple[float | None, float | None]
    high: str
    low: str
    source: str
    alarm: str = ""
    above: float | None = None
    below: float | None = None


class Finding(Part):
    """What a diagnostic found in one trial or reference row.

    Attributes:
        key: Hash of everything that it depends on.
        meaning: What the diagnostic is.
        values: Its values by name, such as ``documents`` and ``queries``; empty if it does not apply.
        per_query: Scores of each query, by name, for diagnostics that are differences of scores.
        seconds: How long it took.
    """

    key: str
    meaning: Meaning
    values: dict[str, float]
    per_query: dict[str, Scores] = {}
    seconds: float


class ExplainRecord(Record):
    """``explain/<dataset>.json``: what the diagnostics found in a trial or reference row on one data set.

    Attributes:
        schema_version: Version of this file.
        dataset: Name of the data set.
        findings: What each diagnostic found, by its name.
    """

    written_by: ClassVar[str] = "python -m eval with eval.explain=true"

    dataset: str
    findings: dict[str, Finding] = {}


class WordsRecord(Record):
    """``words.json``: how many texts of the training data have each word; only with ``eval.explain``.

    Attributes:
        schema_version: Version of this file.
        data_hash: Hash of the training data.
        texts: Number of texts, queries and documents together.
        words: By word, the number of texts; of many words, the most frequent.
    """

    written_by: ClassVar[str] = "python -m train with eval.explain=true"

    data_hash: str
    texts: Count
    words: dict[str, Count]


class QueryFacts(Part):
    """What is known about a judged query without any search; lengths are in token vectors.

    Attributes:
        words: The number of its words.
        length: Its length.
        relevant: The number of its relevant documents.
        document_length: The length of its longest relevant document; null if none has a token.
        truncated: Whether a relevant document exceeds the maximum length; null without one.
        in_corpus: The share of documents that have its rarest word; null for a query without words.
        in_training: The share of training texts that have its rarest word there; null if that is not known.
    """

    words: Count
    length: Count
    relevant: Count
    document_length: Count | None
    truncated: bool | None
    in_corpus: float | None
    in_training: float | None


class QueriesRecord(Record):
    """``queries/<dataset>.json``: what is known about each judged query of a data set; only with ``eval.explain``.

    Attributes:
        schema_version: Version of this file.
        key: Hash of everything that it depends on.
        queries: The facts of each query, by its id.
    """

    written_by: ClassVar[str] = "python -m eval with eval.explain=true"

    key: str
    queries: dict[str, QueryFacts]


class TextsRecord(Record):
    """``texts/<dataset>.json``: shortened texts for the report.

    Attributes:
        schema_version: Version of this file.
        queries: The text of each judged query.
        documents: The text of each document that is at the top of some run.
    """

    written_by: ClassVar[str] = "python -m eval"

    queries: dict[str, str] = {}
    documents: dict[str, str] = {}


class LookState(Part):
    """What was known about one variant after a look.

    Attributes:
        state: ``better``, ``worse``, ``equivalent``, ``undecided`` or ``too few seeds``.
        look: The look at which it was decided, from 0; the present one if it is not.
        seeds: The variant's seeds that counted at that look.
        baseline_seeds: The baseline's.
        difference: The difference from the baseline at that look, from 0 to 1.
        low: Lower end of its interval, which holds over all looks and variants; null with too few seeds.
        high: Upper end.
        adjusted_p: The p-value of no difference, corrected for variants and looks.
        equivalent_p: The same of a difference beyond the resolution; null without one.
    """

    state: str
    look: Count
    seeds: Count
    baseline_seeds: Count
    difference: float
    low: float | None
    high: float | None
    adjusted_p: float
    equivalent_p: float | None


class LookRecord(Part):
    """One look at the verdicts.

    Attributes:
        seeds: By row of the leaderboard, how many seeds counted, the first ones of ``trained``.
        states: What was known about each row but the baseline.
    """

    seeds: dict[str, Count]
    states: dict[str, LookState]


class RoundsRecord(Record):
    """``rounds.json``: the looks at an experiment's verdicts, and what is trained next.

    Attributes:
        schema_version: Version of this file.
        question: The question that the first look answered; null for a fixed list of seeds.
        trained: By row of the leaderboard, its seeds in the order in which looks first saw them.
        looks: Every look, in order. A look at the same seeds as the one before is not repeated.
        next: By row, how many seeds are trained, from seed 0; empty for a fixed list of seeds.
        done: Whether no further seeds are needed.
    """

    written_by: ClassVar[str] = "python -m eval"

    question: dict[str, Any] | None = None
    trained: dict[str, list[int]] = {}
    looks: list[LookRecord] = []
    next: dict[str, Count] = {}
    done: bool
