"""What is known about each judged query of a data set: its words, lengths and relevant documents."""

from collections.abc import Sequence

from eval.embed import SubjectEncoder
from eval.search_task import SearchTask
from eval.subjects import Subject
from experiment.disk.files import sha256_json
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import QueriesRecord, QueryFacts, WordsRecord
from experiment.words import count_texts, words_of

__all__ = ["write_query_facts"]

QUERIES_VERSION = 1
"""Raised when a change to the code changes the facts."""

COUNTED_DOCUMENTS = 100_000
"""At most so many documents, evenly spaced, are searched for the words of the queries."""

MEASURED_DOCUMENTS = 20
"""Relevant documents of a query whose length is measured."""


def write_query_facts(
    folder: ExperimentFolder, task: SearchTask, encoder: SubjectEncoder, subjects: Sequence[Subject]
) -> None:
    """Write the facts of a data set, unless they are there; lengths are those of the first subject that is a model."""
    subject = next((one for one in subjects if one.kind == "model"), None)
    if subject is None:
        return
    path, trained = folder.queries_json(task.dataset.name), WordsRecord.find(folder.words_json)
    seen = None if trained is None else trained.data_hash
    key = sha256_json([QUERIES_VERSION, task.collection.hash, encoder.reading(subject), seen])
    record = QueriesRecord.find(path)
    if record is not None and record.key == key:
        return
    collection = task.collection
    words = {name: words_of(collection.queries[name]) for name in collection.qrels}
    wanted = {word for found in words.values() for word in found}
    step = max(1, -(-len(task.documents) // COUNTED_DOCUMENTS))
    counted = task.documents[::step]
    in_corpus = count_texts(counted, wanted)
    relevant = {
        name: [document for document, grade in judged.items() if grade > 0 and document in collection.corpus]
        for name, judged in collection.qrels.items()
    }
    measured = list(dict.fromkeys(one for found in relevant.values() for one in found[:MEASURED_DOCUMENTS]))
    lengths = encoder.lengths(subject, [collection.queries[name] for name in words], is_query=True)
    of_documents = dict(
        zip(
            measured,
            encoder.lengths(subject, [collection.corpus[one].passage for one in measured], is_query=False),
            strict=True,
        )
    )
    facts = {}
    for (name, found), (length, _) in zip(words.items(), lengths, strict=True):
        sizes = [of_documents[one] for one in relevant[name][:MEASURED_DOCUMENTS]]
        facts[name] = QueryFacts(
            words=len(found),
            length=length,
            relevant=len(relevant[name]),
            document_length=max((size for size, _ in sizes if size), default=None),
            truncated=any(cut for _, cut in sizes) if sizes else None,
            in_corpus=min(in_corpus[word] for word in found) / len(counted) if found else None,
            in_training=(
                min(trained.words.get(word, 0) for word in found) / max(1, trained.texts)
                if found and trained is not None
                else None
            ),
        )
    QueriesRecord(key=key, queries=facts).write(path)
