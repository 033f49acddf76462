"""The best documents of each query so far, as a corpus goes by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.search.ranking import NOTHING, Ranking, in_order

__all__ = ["Best"]


@dataclass
class Best:
    """The best documents of each query among those seen so far.

    The reported score of a document does not depend on what else is searched, and ties are broken by priority, so the
    result is the same for any order of the documents and any division into parts.

    Attributes:
        documents: (n_queries, depth) int64, places in the corpus, best first; -1 where there are fewer.
        scores: (n_queries, depth) float32; minus infinity where there are fewer.
    """

    documents: np.ndarray
    scores: np.ndarray

    @classmethod
    def nothing(cls, queries: int, depth: int) -> "Best":
        """Return the state before the first document."""
        return cls(np.full((queries, depth), -1, np.int64), np.full((queries, depth), -np.inf, np.float32))

    @property
    def floors(self) -> np.ndarray:
        """Scores (n_queries,) below which a document cannot be among the best any more."""
        return self.scores[:, -1]

    def copy(self) -> "Best":
        """Return a copy."""
        return Best(self.documents.copy(), self.scores.copy())

    def add(self, rankings: Sequence[Ranking], priority: np.ndarray, first: int = 0) -> None:
        """Add documents that were not seen before.

        Args:
            rankings: One per query; the documents are places after ``first``.
            priority: (n_documents,) as in ``eval.search.ranking.Problem``, of the entire corpus.
            first: Place of the first document of the part that was searched.
        """
        depth = self.documents.shape[1]
        for query, found in enumerate(rankings):
            if not len(found.documents):
                continue
            held = self.ranking(query)
            documents = np.concatenate([held.documents, found.documents + first])
            best = in_order(documents, np.concatenate([held.scores, found.scores]), priority, depth)
            self.documents[query, : len(best.documents)] = best.documents
            self.scores[query, : len(best.scores)] = best.scores

    def without_known(self, rankings: Sequence[Ranking]) -> list[Ranking]:
        """Return rankings, one per query, without the documents that are here already."""
        fresh = [~np.isin(found.documents, self.documents[query]) for query, found in enumerate(rankings)]
        return [Ranking(found.documents[new], found.scores[new]) for found, new in zip(rankings, fresh, strict=True)]

    def ranking(self, query: int) -> Ranking:
        """Return the ranking of a query."""
        count = int((self.documents[query] >= 0).sum())
        return Ranking(self.documents[query, :count], self.scores[query, :count]) if count else NOTHING

    def rankings(self) -> list[Ranking]:
        """Return one ranking per query."""
        return [self.ranking(query) for query in range(len(self.documents))]
