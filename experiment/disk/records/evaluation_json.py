"""``reference.json``, the files of ``eval`` folders and ``texts``, which evaluation writes."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from experiment.disk.record import Count, Part, Record, Scores

__all__ = [
    "CandidateRecall",
    "DatasetFacts",
    "EvaluationBytes",
    "EvaluationRecord",
    "EvaluationTimings",
    "IndexFacts",
    "ReferenceRecord",
    "StandIn",
    "StandInStates",
    "StorageEntry",
    "TextCounts",
    "TextsRecord",
]


class ReferenceRecord(Record):
    """``reference.json``: what a reference row is.

    Attributes:
        schema_version: Version of this file.
        name: ``bm25``, ``backbone`` or ``untrained``.
        description: What it is, in one sentence.
        seed: The seed of an untrained model, 0 for the others.
        key: Hash of everything that an untrained model depends on; null for the others.
        weights_hash: Hash of an untrained model; null for the others.
        axes: The values of the compared settings that the row depends on, by key.
    """

    written_by: ClassVar[str] = "python -m train and python -m eval"

    name: str
    description: str
    seed: int
    key: str | None = None
    weights_hash: str | None = None
    axes: dict[str, Any] = {}


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
