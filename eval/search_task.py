"""A data set as a search task: its judged queries, the corpus that answers them, and how the answers are measured."""

import time
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from eval.measures import check_grades, measure_run
from eval.runs import Run, encode_id, make_run
from eval.search.choice import Answer, search, search_settings
from eval.search.lexical import bm25_rankings
from eval.search.ranking import Problem, Ranking, priorities
from experiment.collections import Collection, Document, list_ids, list_passages
from experiment.collections.large_corpus import LargeCorpus
from experiment.collections.same_ids import EXCLUDED, excluded_ids, excluded_places
from experiment.config import EvalConfig, EvalDatasetRef
from experiment.console.progress import Progress
from experiment.disk.records import IndexFacts
from experiment.encoding.store import TokenStore
from projheads.errors import ProjheadsError

__all__ = ["SearchTask"]

BYTES_PER_DOCUMENT = 400
"""A document in memory, besides its characters: measured with documents of 170."""

BM25_TEXT_BYTES = 10**9
"""Text that BM25 indexes at most; the index takes about six times as much memory."""


class SearchTask:
    """Searches one data set and measures the result; making one fails if its grades cannot be measured.

    Attributes:
        dataset: The data set as the configuration names it.
        collection: Its content.
        settings: How to search and what to measure.
        document_ids: Ids of the documents, in the order of the corpus.
        queries: Texts of the judged queries.
        documents: Texts of the documents.
        priority: (n_documents,) as in ``eval.search.ranking.Problem``.
        excluded: Ids of the queries that never find the document of the same id.
    """

    def __init__(
        self, dataset: EvalDatasetRef, collection: Collection, settings: EvalConfig, device: torch.device
    ) -> None:
        try:
            check_grades(settings.measures, collection.qrels)
        except ProjheadsError as error:
            raise ProjheadsError(f"{dataset.source}: {error}") from None
        self.dataset, self.collection, self.settings = dataset, collection, settings
        self._device = device
        self._query_ids, self.document_ids = list(collection.qrels), list_ids(collection.corpus)
        self.queries = [collection.queries[name] for name in self._query_ids]
        self.documents = list_passages(collection.corpus)
        # Documents of equal score are ordered by their ids as the run file spells them.
        self.priority = _priorities(collection.corpus)
        self.excluded = excluded_ids(collection, dataset.source, dataset.exclude_own_id)
        self._own = excluded_places(self._query_ids, self.document_ids, self.excluded, collection.excluded)

    @property
    def notes(self) -> dict[str, int]:
        """Counts of the oddities of the collection, and of the documents that are excluded."""
        return {**self.collection.notes, **({EXCLUDED: len(self.excluded)} if self.excluded else {})}

    @cached_property
    def text_bytes(self) -> int:
        """Memory of the documents; 0 if they are read from a file."""
        if isinstance(self.collection.corpus, LargeCorpus):
            return 0
        return sum(len(text) for text in self.documents) + BYTES_PER_DOCUMENT * len(self.documents)

    @property
    def judged(self) -> frozenset[str]:
        """Ids of the documents that are judged for some query."""
        return frozenset(document for grades in self.collection.qrels.values() for document in grades)

    def problem(self, queries: TokenStore, documents: TokenStore, place: slice | None = None) -> Problem:
        """Return what a search with these token embeddings solves.

        Args:
            queries: Embeddings of the queries.
            documents: Embeddings of the documents at ``place``.
            place: Places of consecutive documents; None for the entire corpus.
        """
        if place is None:
            return Problem(queries, documents, self.settings.depth, self.priority, self._own)
        own = np.where((self._own >= place.start) & (self._own < place.stop), self._own - place.start, -1)
        return Problem(queries, documents, self.settings.depth, self.priority[place], own)

    def search(self, what: str, queries: TokenStore, documents: TokenStore, progress: Progress) -> Answer:
        """Search with token embeddings; ``what`` says in the progress bar whose they are.

        Raises:
            ProjheadsError: If they are not one entry per query and document, or a side has no token vector at all.
        """
        for side, store, texts in (("queries", queries, self.queries), ("documents", documents, self.documents)):
            if len(store) != len(texts):
                raise ProjheadsError(f"{what}: embeddings of {len(store)} {side}, expected {len(texts)}")
            if not len(store.vectors):
                raise ProjheadsError(f"{what}: none of the {len(texts)} {side} has a token vector")
        problem = self.problem(queries, documents)
        with progress.step(f"searching for {what}", 1) as advance:
            return search(problem, search_settings(self.settings), self._device, advance)

    @property
    def too_large_for_bm25(self) -> str | None:
        """Why BM25 cannot search this corpus; None if it can."""
        corpus = self.collection.corpus
        if not isinstance(corpus, LargeCorpus) or corpus.text_bytes <= BM25_TEXT_BYTES:
            return None
        return (
            f"BM25 is skipped: its index is in memory, for at most {BM25_TEXT_BYTES / 1e9:.0f} GB of text, and this "
            f"corpus has {corpus.text_bytes / 1e9:.1f} GB"
        )

    def search_bm25(self, progress: Progress) -> Answer:
        """Search with BM25."""
        started = time.perf_counter()
        with progress.step("searching with BM25", 1) as advance:
            rankings = bm25_rankings(
                self.queries,
                self.documents,
                depth=self.settings.depth,
                priority=self.priority,
                own=self._own,
                progress=advance,
            )
        index = IndexFacts(kind="bm25", depth=self.settings.depth)
        return Answer(rankings, index, 0.0, time.perf_counter() - started, 0)

    def measure(self, answer: Answer) -> tuple[Run, dict[str, dict[str, float]]]:
        """Return the run that an answer amounts to, and its scores by measure and query id."""
        return self.measure_rankings(answer.rankings)

    def measure_rankings(self, rankings: Sequence[Ranking]) -> tuple[Run, dict[str, dict[str, float]]]:
        """Return the run that rankings, one per query, amount to, and its scores by measure and query id."""
        run = make_run(rankings, self._query_ids, self.document_ids)
        return run, measure_run(self.settings.measures, self.collection.qrels, run)


def _priorities(corpus: Mapping[str, Document]) -> np.ndarray:
    """Return the ``priorities`` of a corpus; those of a large one in the order of ids that is on disk."""
    if not isinstance(corpus, LargeCorpus) or any(encode_id(name) != name for name in corpus.ids):
        return priorities([encode_id(name) for name in list_ids(corpus)])
    priority = np.empty(len(corpus), np.int64)
    priority[corpus.order] = np.arange(len(corpus))
    return priority
