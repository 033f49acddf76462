"""Development queries with their corpus, by which a sweep chooses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiment.collections import Collection, open_collection
from experiment.collections.same_ids import excluded_ids, excluded_places
from experiment.collections.same_texts import text_digest
from experiment.config.validation_section import ValidationConfig
from experiment.disk.files import sha256_json
from experiment.seeds import numpy_generator
from projheads.errors import ProjheadsError

__all__ = ["Development", "load_development"]


@dataclass(frozen=True)
class Development:
    """Development queries, and the documents that they are ranked over.

    Attributes:
        name: The collection and its split: ``my/data (dev)``.
        queries: Query texts.
        documents: Document texts.
        gains: (n_queries, n_documents) float32, the grade of each document, 0 if it is not relevant.
        hidden: (n_queries,) or (n_queries, n) int64, the documents that a query never finds, -1 for none.
        about: What they are: ``200 of 300 queries of my/data (dev), over all 5183 documents``.
        hash: Content hash.
    """

    name: str
    queries: Sequence[str]
    documents: Sequence[str]
    gains: np.ndarray
    hidden: np.ndarray
    about: str
    hash: str


def load_development(config: ValidationConfig, cache: Path, trained: Iterable[str]) -> Development:
    """Read the development queries of a collection and choose the documents that they are ranked over.

    Args:
        config: A collection of ``train.validation``, with its source.
        cache: Folder of the collections.
        trained: Texts of training queries; development queries with the same text are left out.

    Raises:
        ProjheadsError: If the collection cannot be read, or no query can be used.
    """
    source = str(config.source)
    collection = open_collection(source, split=config.split, cache=cache)
    judged = {query: _relevant(collection, query) for query in collection.queries}
    usable = [query for query, grades in judged.items() if grades and collection.queries[query].strip()]
    digests = {query: text_digest(collection.queries[query]) for query in usable}
    seen = set(digests.values()).intersection(map(text_digest, trained))
    unseen = [query for query in usable if digests[query] not in seen]
    if not unseen:
        why = "all its queries are also training queries" if usable else "none of its queries has a relevant document"
        raise ProjheadsError(f"train.validation: {config} cannot choose anything: {why}; use a different split")
    generator = numpy_generator(0, "development data")
    queries = _draw(unseen, config.max_queries, generator)
    documents = _choose_documents(collection, queries, config.max_documents, generator)
    places = {name: place for place, name in enumerate(documents)}
    gains = np.zeros((len(queries), len(documents)), np.float32)
    for row, query in enumerate(queries):
        for name, grade in judged[query].items():
            gains[row, places[name]] = grade
    excluded = excluded_ids(collection, source, config.exclude_own_id)
    left_out = f" ({len(usable) - len(unseen)} are also training queries)" * (len(usable) > len(unseen))
    return Development(
        name=str(config),
        queries=[collection.queries[query] for query in queries],
        documents=[collection.corpus[name].passage for name in documents],
        gains=gains,
        hidden=excluded_places(queries, documents, excluded, collection.excluded),
        about=f"{_share(len(queries), len(usable))} queries{left_out} of {config}, over "
        f"{_share(len(documents), len(collection.corpus))} documents",
        hash=sha256_json([collection.hash, queries, documents, sorted(excluded)]),
    )


def _relevant(collection: Collection, query: str) -> Mapping[str, int]:
    """Return the grades of a query's relevant documents that are in the corpus."""
    grades = collection.qrels[query].items()
    return {name: grade for name, grade in grades if grade > 0 and name in collection.corpus}


def _draw(names: Sequence[str], most: int | None, generator: np.random.Generator) -> list[str]:
    """Draw up to ``most`` names, in their order."""
    if most is None or len(names) <= most:
        return list(names)
    return [names[place] for place in np.sort(generator.permutation(len(names))[:most])]


def _choose_documents(
    collection: Collection, queries: Sequence[str], most: int | None, generator: np.random.Generator
) -> list[str]:
    """Choose what is ranked: the full corpus, or all judged documents of the queries and randomly drawn ones."""
    if most is None or len(collection.corpus) <= most:
        return list(collection.corpus)
    judged = {name for query in queries for name in collection.qrels[query] if name in collection.corpus}
    others = [name for name in collection.corpus if name not in judged]
    kept = judged.union(_draw(others, max(0, most - len(judged)), generator))
    return [name for name in collection.corpus if name in kept]


def _share(number: int, total: int) -> str:
    return f"all {total}" if number == total else f"{number} of {total}"
