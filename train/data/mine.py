"""``python -m train mine``: tuples with hard negatives from BM25."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiment.bm25 import BM25_SETTINGS, bm25_search
from experiment.collections import Collection, training_pairs
from experiment.collections.near_duplicates import NearDuplicates
from experiment.collections.same_ids import ExcludeOwnId, excluded_ids, excluded_places
from experiment.collections.same_texts import text_digest
from experiment.console.progress import Progress
from experiment.disk.files import write_parts
from projheads.errors import ProjheadsError

__all__ = ["Mining", "mine"]


@dataclass
class Mining:
    """The options of mining, and its counts.

    Attributes:
        negatives: Negatives per pair.
        first: The first BM25 rank that negatives are taken from, from 1.
        last: The last rank.
        exclude_own_id: See ``experiment.collections.same_ids``.
        written: Tuples written.
        dropped: Pairs left out because the range holds too few negatives.
        alike: Candidates left out because their text is, or nearly is, that of a relevant document or of a negative.
        deepest: The deepest rank of a negative.
        ranks: Sum of the ranks of all negatives.
    """

    negatives: int
    first: int
    last: int
    exclude_own_id: ExcludeOwnId = "auto"
    written: int = field(default=0, init=False)
    dropped: int = field(default=0, init=False)
    alike: int = field(default=0, init=False)
    deepest: int = field(default=0, init=False)
    ranks: int = field(default=0, init=False)

    def about(self, collection: Collection, source: str) -> dict[str, Any]:
        """Return what the first line of the file says about how it was made."""
        return {
            "made_by": "python -m train mine",
            "source": source,
            "split": collection.split,
            "collection": collection.hash,
            "bm25": BM25_SETTINGS,
            "negatives": self.negatives,
            "ranks": [self.first, self.last],
            "exclude_own_id": self.exclude_own_id,
        }

    def __str__(self) -> str:
        """Summarise the result in one line."""
        mean = self.ranks / max(1, self.written * self.negatives)
        dropped = f"; {self.dropped} pairs with fewer negatives in that range were left out" if self.dropped else ""
        alike = f"; {self.alike} candidates repeat a relevant document or another negative" if self.alike else ""
        return (
            f"{self.written} tuples of a positive and {self.negatives} negatives from BM25 ranks {self.first} "
            f"to {self.last}: mean rank {mean:.1f}, deepest {self.deepest}{dropped}{alike}"
        )


def mine(collection: Collection, source: str, mining: Mining, out: Path, progress: Progress) -> None:
    """Find hard negatives for each training pair of a collection, and write the tuples as ids.

    A query's negatives are the best-ranked documents in the range that are not judged relevant to it, that is, with a
    grade above 0, and whose texts are not equal or nearly equal to the text of a relevant document or to each other.
    A document that is relevant to a query of the same text under a different id is relevant too.
    Ranks count every document that BM25 finds. A line's ``ranks`` are those of its documents, null for a positive that
    ranks after the range or was not found. The same collection and options give the same bytes.

    Args:
        collection: The collection.
        source: How the configuration names it.
        mining: The options; the counts are written into it.
        out: The JSONL file; see ``train.data.tuples_file``.
        progress: Reports progress.

    Raises:
        ProjheadsError: If no pair has enough negatives; nothing is written.
    """

    def parts() -> Iterator[bytes]:
        yield _line({"about": mining.about(collection, source)})
        yield from map(_line, _tuples(collection, source, mining, progress))
        if not mining.written:
            raise ProjheadsError(
                f"{source} ({collection.split}): no tuples to write; {mining.dropped} pairs have fewer than "
                f"{mining.negatives} negatives in BM25 ranks {mining.first} to {mining.last}; lower --negatives or "
                "raise --to-rank"
            )

    write_parts(out, parts())


def _line(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def _tuples(collection: Collection, source: str, mining: Mining, progress: Progress) -> Iterator[dict[str, Any]]:
    positives: dict[str, list[str]] = {}
    for query, document in training_pairs(collection):
        positives.setdefault(query, []).append(document)
    relevant_to: dict[bytes, list[str]] = {}
    keys = {query: text_digest(collection.queries[query]) for query in positives}
    for query, judged in positives.items():
        relevant_to.setdefault(keys[query], []).extend(judged)
    ids = list(collection.corpus)
    own = excluded_places(positives, ids, excluded_ids(collection, source, mining.exclude_own_id), collection.excluded)
    with progress.step(f"BM25 over {len(ids)} documents for {len(positives)} queries", 1.0) as advance:
        found = bm25_search(
            [collection.queries[query] for query in positives],
            [document.passage for document in collection.corpus.values()],
            depth=mining.last,
            # Ties are broken by the order of the corpus.
            priority=-np.arange(len(ids)),
            own=own,
            progress=advance,
        )
        for (query, relevant), (documents, _) in zip(positives.items(), found, strict=True):
            ranked = [ids[document] for document in documents]
            taken = _negatives(collection, query, relevant_to[keys[query]], ranked, mining)
            if len(taken) < mining.negatives:
                mining.dropped += len(relevant)
                continue
            for positive in relevant:
                rank = ranked.index(positive) + 1 if positive in ranked else None
                mining.written += 1
                mining.ranks += sum(taken.values())
                mining.deepest = max(mining.deepest, *taken.values())
                yield {"query_id": query, "document_ids": [positive, *taken], "ranks": [rank, *taken.values()]}


def _negatives(
    collection: Collection, query: str, relevant: list[str], ranked: list[str], mining: Mining
) -> dict[str, int]:
    """Return the negatives of a query with their ranks, best first; fewer than requested if there are no more."""
    grades, corpus = collection.qrels[query], collection.corpus
    seen = NearDuplicates()
    for document in relevant:
        seen.add(corpus[document].passage)
    taken: dict[str, int] = {}
    for rank in range(mining.first, min(mining.last, len(ranked)) + 1):
        if len(taken) == mining.negatives:
            break
        document = ranked[rank - 1]
        if grades.get(document, 0) > 0 or document in relevant:
            continue
        if seen.add(corpus[document].passage):
            taken[document] = rank
        else:
            mining.alike += 1
    return taken
