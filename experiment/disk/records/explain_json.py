"""The files of ``eval.explain``: what diagnostics found, and what is known about queries and words."""

from typing import ClassVar

from experiment.disk.record import Count, Part, Record, Scores

__all__ = ["ExplainRecord", "Finding", "Meaning", "QueriesRecord", "QueryFacts", "WordsRecord"]


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
