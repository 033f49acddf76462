"""A collection: a corpus, the judged queries of one split, and their judgements."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from experiment.collections.document import Document
from experiment.collections.large_corpus import LargeCorpus
from experiment.collections.same_texts import repeated_texts
from experiment.disk.files import sha256_parts
from projheads.errors import ProjheadsError

__all__ = ["Collection", "Document", "Judgement", "list_ids", "list_passages", "make_collection", "training_pairs"]

Judgement = tuple[str, str, int]
"""One row of qrels: query id, document id, grade."""


@dataclass(frozen=True)
class Collection:
    """A corpus with the queries that one split judges.

    Attributes:
        name: A short name for people.
        split: The split of the queries and qrels.
        corpus: Documents by id, in the order of the source.
        queries: Texts of the judged queries by id, in the order of the source.
        qrels: Grades by query id and document id. Every query has its text in ``queries``. A document may be missing
            from the corpus: a relevant one that is missing counts as not retrieved, as trec_eval counts it.
        hash: SHA-256 of corpus, queries, qrels and exclusions. It depends only on their content, not on the order of
            lines, spelling (escapes, an id as a number, a missing field instead of an empty one), name, split or path.
        notes: Counts of the oddities of the source that occur; see ``make_collection``.
        excluded: Ids of the documents that a query never finds, as BRIGHT lists them, by query id.
    """

    name: str
    split: str
    corpus: Mapping[str, Document]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    hash: str
    notes: Mapping[str, int]
    excluded: Mapping[str, frozenset[str]] = field(default_factory=dict)


def make_collection(
    name: str,
    split: str,
    corpus: Mapping[str, Document],
    queries: Mapping[str, str],
    judgements: Iterable[Judgement],
    *,
    source: str,
    judged_elsewhere: Iterable[str] = (),
    notes: Mapping[str, int],
    excluded: Mapping[str, Iterable[str]] | None = None,
) -> Collection:
    """Combine corpus, queries and judgements, and count their oddities.

    The notes made here:

    - ``empty_documents``, ``empty_queries``: neither title nor text; kept.
    - ``ids_with_spaces``: document or query ids with white space, which separates the columns of a TREC run; kept.
    - ``judgements_of_missing_queries``: no text to search with; dropped.
    - ``judgements_of_missing_documents``: kept, see ``Collection.qrels``.
    - ``repeated_judgements``: rows that repeat an earlier row.
    - ``contradicting_judgements``: rows whose grade differs from that of an earlier row; the last wins, as in beir.
    - ``negative_judgements``, ``graded_judgements``: grades below 0, grades above 1; kept.
    - ``queries_without_judgements``: queries that no split judges; dropped.
    - ``queries_without_relevant_documents``: judged, but no grade is above 0; kept.
    - ``repeated_documents``: documents with the text of an earlier one; kept.
    - ``unjudged_copies_of_relevant_documents``: documents that are not judged for a query, with the text of one that is
      relevant to it; they count as not relevant, as in trec_eval.
    - ``documents_excluded_by_the_collection``: documents that a judged query never finds.

    Args:
        name: A short name for people.
        split: The split of the judgements.
        corpus: Documents by id.
        queries: Texts of all queries by id, judged or not.
        judgements: Rows of the split's qrels.
        source: What an error calls the source.
        judged_elsewhere: Ids of queries that other splits judge.
        notes: Counts of the oddities that the reader saw.
        excluded: Ids of the documents that each query never finds; those that are not in the corpus are ignored.

    Raises:
        ProjheadsError: If there is no document, or no judged query that has a text.
    """
    if not corpus:
        raise ProjheadsError(f"{source}: the corpus is empty; use a collection with at least one document")
    counts = Counter(notes)
    qrels: dict[str, dict[str, int]] = {}
    for query_id, document_id, grade in judgements:
        if query_id not in queries:
            counts["judgements_of_missing_queries"] += 1
            continue
        grades = qrels.setdefault(query_id, {})
        if document_id in grades:
            counts["repeated_judgements" if grades[document_id] == grade else "contradicting_judgements"] += 1
        grades[document_id] = grade
    if not qrels:
        raise ProjheadsError(f'{source}: the qrels of split "{split}" judge none of the queries')
    judged = {query_id: text for query_id, text in queries.items() if query_id in qrels}
    excluded = excluded or {}
    left_out = {query: frozenset(excluded[query]) & corpus.keys() for query in judged if query in excluded}
    left_out = {query: found for query, found in left_out.items() if found}
    counts.update(_oddities(corpus, judged, qrels))
    counts["documents_excluded_by_the_collection"] = sum(map(len, left_out.values()))
    counts["queries_without_judgements"] = len(queries.keys() - qrels.keys() - set(judged_elsewhere))
    return Collection(
        name=name,
        split=split,
        corpus=corpus,
        queries=judged,
        qrels=qrels,
        hash=_fingerprint(corpus, judged, qrels, left_out),
        notes={key: count for key, count in sorted(counts.items()) if count},
        excluded=left_out,
    )


def list_ids(corpus: Mapping[str, Document]) -> Sequence[str]:
    """Return the ids of a corpus, in its order; those of a large one are read when they are asked for."""
    return corpus.ids if isinstance(corpus, LargeCorpus) else list(corpus)


def list_passages(corpus: Mapping[str, Document]) -> Sequence[str]:
    """Return the passages of a corpus, in its order; those of a large one are read when they are asked for."""
    return corpus.passages if isinstance(corpus, LargeCorpus) else [document.passage for document in corpus.values()]


def training_pairs(collection: Collection) -> list[tuple[str, str]]:
    """List the (query id, document id) pairs to train on, in the order of the qrels.

    A pair is a judgement of positive grade whose query and document exist and have a text.
    """
    corpus, queries = collection.corpus, collection.queries
    return [
        (query_id, document_id)
        for query_id, grades in collection.qrels.items()
        if queries[query_id].strip()
        for document_id, grade in grades.items()
        if grade > 0 and document_id in corpus and corpus[document_id].passage
    ]


def _oddities(
    corpus: Mapping[str, Document], queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]
) -> Counter[str]:
    grades = [grade for judged in qrels.values() for grade in judged.values()]
    copies = _copies(corpus)
    return Counter(
        empty_documents=sum(not document.passage for document in corpus.values()),
        empty_queries=sum(not text.strip() for text in queries.values()),
        ids_with_spaces=sum(len(key.split()) > 1 or key != key.strip() for ids in (corpus, queries) for key in ids),
        judgements_of_missing_documents=sum(key not in corpus for judged in qrels.values() for key in judged),
        negative_judgements=sum(grade < 0 for grade in grades),
        graded_judgements=sum(grade > 1 for grade in grades),
        queries_without_relevant_documents=sum(max(judged.values()) <= 0 for judged in qrels.values()),
        repeated_documents=sum(name != same[0] for name, same in copies.items()),
        unjudged_copies_of_relevant_documents=sum(
            len({copy for name, grade in judged.items() if grade > 0 for copy in copies.get(name, ())} - judged.keys())
            for judged in qrels.values()
        ),
    )


def _copies(corpus: Mapping[str, Document]) -> dict[str, list[str]]:
    """Return for each document whose text occurs more than once the ids of all documents with that text."""
    names, passages = list_ids(corpus), list_passages(corpus)
    same = [[names[place] for place in group] for group in repeated_texts(passages) if passages[group[0]]]
    return {name: group for group in same for name in group}


def _fingerprint(
    corpus: Mapping[str, Document],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    excluded: Mapping[str, frozenset[str]],
) -> str:
    """Hash the fields of all records in the order of their ids, each field after its length in bytes."""
    return sha256_parts(
        field.encode("utf-8") for fields in _records(corpus, queries, qrels, excluded) for field in fields
    )


def _records(
    corpus: Mapping[str, Document],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    excluded: Mapping[str, frozenset[str]],
) -> Iterator[tuple[str, ...]]:
    by_id = corpus.in_order_of_ids() if isinstance(corpus, LargeCorpus) else (corpus[key] for key in sorted(corpus))
    for document in by_id:
        yield "document", document.id, document.title, document.text
    for key in sorted(queries):
        yield "query", key, queries[key]
    for key in sorted(qrels):
        for document_id, grade in sorted(qrels[key].items()):
            yield "judgement", key, document_id, str(grade)
    for key in sorted(excluded):
        yield "excluded", key, *sorted(excluded[key])
