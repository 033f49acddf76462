"""Whether a query may find the document that has its own id.

In ArguAna and Quora the queries are documents of the corpus, and BEIR's evaluation removes a query's own document from
its results. In most other collections queries and documents are simply numbered, and document 7 may well be relevant to
query 7.
"""

from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from experiment.collections.collection import Collection
from experiment.collections.sources import published_without_same_ids

__all__ = ["EXCLUDED", "ExcludeOwnId", "excluded_ids", "excluded_places"]

ExcludeOwnId = Literal["auto", True, False]

EXCLUDED = "same_id_documents_excluded"
"""The note that counts excluded documents."""


def excluded_ids(collection: Collection, source: str, exclude: ExcludeOwnId) -> frozenset[str]:
    """Return the ids of the judged queries that never find the document of the same id.

    With ``"auto"`` a document is excluded if the source's published numbers exclude it, or if its text is the query's.
    But if any query and document of the same id are judged, ids name different things, and nothing is excluded.

    Args:
        collection: The collection.
        source: The source that it was opened from.
        exclude: ``"auto"``, or True or False for all documents that share their id with a query.
    """
    shared = frozenset(query for query in collection.qrels if query in collection.corpus)
    if exclude is True:
        return shared
    if exclude is False or any(query in collection.qrels[query] for query in shared):
        return frozenset()
    if published_without_same_ids(source):
        return shared
    return frozenset(query for query in shared if _is_same_text(collection, query))


def excluded_places(
    query_ids: Iterable[str],
    document_ids: Iterable[str],
    excluded: Container[str],
    further: Mapping[str, Iterable[str]] | None = None,
) -> np.ndarray:
    """Return, for each query, the places of the documents that it never finds.

    Args:
        query_ids: Ids of the queries.
        document_ids: Ids of the documents, in the order of the corpus.
        excluded: Ids of the queries that never find the document of the same id, see ``excluded_ids``.
        further: Ids of other documents that a query never finds, by query id, see ``Collection.excluded``.

    Returns:
        (n_queries,) int64, or (n_queries, n) if there are further ones; -1 for none.
    """
    queries = list(query_ids)
    others = {query: (further or {}).get(query, ()) for query in queries}
    wanted = {*excluded, *(name for names in others.values() for name in names)}
    place = {name: index for index, name in enumerate(document_ids) if name in wanted} if wanted else {}
    own = np.array([place.get(name, -1) if name in excluded else -1 for name in queries], np.int64)
    found = [sorted(place[name] for name in others[query] if name in place) for query in queries]
    if not any(found):
        return own
    places = np.full((len(queries), 1 + max(map(len, found))), -1, np.int64)
    places[:, 0] = own
    for row, further_places in enumerate(found):
        places[row, 1 : 1 + len(further_places)] = further_places
    return places


def _is_same_text(collection: Collection, name: str) -> bool:
    """Compare a query with the document of its id, with and without the title, ignoring white space."""
    query, document = collection.queries[name].split(), collection.corpus[name]
    return query in (document.passage.split(), document.text.split())
