"""Which search answers the queries, and how good an approximate one is."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from eval.search.exact import exact_search
from eval.search.faiss_index import build_index, check_factory, faiss_search, training_rows
from eval.search.ranking import Problem, Ranking
from experiment.config import EvalConfig
from experiment.disk.records import CandidateRecall, IndexFacts

__all__ = [
    "EXACT_MULTIPLY_ADDS",
    "Answer",
    "SearchSettings",
    "check_search",
    "choose_index",
    "search",
    "search_settings",
]

EXACT_MULTIPLY_ADDS = 10**13
"""``auto`` searches exactly up to this many multiply-adds (query tokens x document tokens x width): two minutes on two
CPU cores. It also limits what is spent on measuring the candidate recall of an approximate search."""

CANDIDATES_TIMES_DEPTH = 4
"""Documents scored per query by default: enough to find 96% of the exact search's top 100 on SciFact."""

KMEANS_ROUNDS = 10
"""Rounds of k-means with which FAISS trains inverted lists."""

LEAST_SAMPLE = 20
"""Queries that the candidate recall is measured on at least, however large the corpus."""


@dataclass(frozen=True)
class SearchSettings:
    """How to search; the fields are those of ``experiment.config.EvalConfig``."""

    index: str
    nprobe: int | None
    candidates_per_token: int
    max_candidates: int | None = None


def search_settings(config: EvalConfig) -> SearchSettings:
    """Return the search settings of a configuration."""
    most = config.max_candidates or CANDIDATES_TIMES_DEPTH * config.depth
    return SearchSettings(config.index, config.nprobe, config.candidates_per_token, most)


@dataclass(frozen=True)
class Answer:
    """What a search found, and what it took.

    Attributes:
        rankings: One per query.
        index: How it was searched.
        index_s: Seconds to build the index.
        search_s: Seconds to search.
        index_bytes: Size of the index; 0 without one.
    """

    rankings: list[Ranking]
    index: IndexFacts
    index_s: float
    search_s: float
    index_bytes: int

    def __str__(self) -> str:
        recall = self.index.candidate_recall
        if recall is None:
            return self.index.kind
        return f"{self.index.factory}, candidate recall@{recall.at} {recall.value:.4f}"


def check_search(settings: SearchSettings, width: int) -> None:
    """Check the settings before anything is encoded.

    Raises:
        ProjheadsError: If FAISS is needed and not installed, or cannot build such an index.
    """
    if settings.index not in ("auto", "exact"):
        check_factory(settings.index, width, settings.nprobe)


def choose_index(index: str, problem: Problem) -> str:
    """Resolve ``auto``: inverted lists of half-precision vectors if they save work, otherwise exact search.

    The number of lists is a power of two near four times the square root of the number of token vectors. A search is
    exact if it takes at most ``EXACT_MULTIPLY_ADDS``, or no more than building such an index would: the few queries of
    most test collections are searched exactly, however large the corpus.
    """
    if index != "auto":
        return index
    vectors = len(problem.documents.vectors)
    lists = 2 ** int(math.log2(4 * math.sqrt(max(1, vectors))))
    building = (vectors + KMEANS_ROUNDS * training_rows(lists)) * lists * problem.documents.width
    return "exact" if problem.multiply_adds <= max(EXACT_MULTIPLY_ADDS, building) else f"IVF{lists},SQfp16"


def search(
    problem: Problem,
    settings: SearchSettings,
    device: torch.device,
    progress: Callable[[float], None] | None = None,
) -> Answer:
    """Answer the queries with the search that the settings name.

    Raises:
        ProjheadsError: If the index cannot be built.
    """
    chosen = choose_index(settings.index, problem)
    started = time.perf_counter()
    if chosen == "exact":
        rankings = exact_search(problem, device=device, progress=progress)
        return Answer(rankings, IndexFacts(kind="exact", depth=problem.depth), 0.0, time.perf_counter() - started, 0)
    index = build_index(problem.documents, chosen, settings.nprobe, device)
    built = time.perf_counter()
    rankings = faiss_search(
        problem,
        index,
        candidates_per_token=settings.candidates_per_token,
        max_candidates=settings.max_candidates,
        progress=progress,
    )
    answered = time.perf_counter()
    about = IndexFacts(
        kind="faiss",
        depth=problem.depth,
        factory=chosen,
        nprobe=index.nprobe,
        candidates_per_token=settings.candidates_per_token,
        max_candidates=settings.max_candidates,
        candidate_recall=_candidate_recall(problem, rankings, device),
    )
    return Answer(rankings, about, built - started, answered - built, index.bytes)


def _candidate_recall(problem: Problem, rankings: list[Ranking], device: torch.device) -> CandidateRecall:
    """Measure the share of the exact search's documents that was found, on all queries or on evenly spaced ones."""
    total = len(problem.queries)
    affordable = total * EXACT_MULTIPLY_ADDS // max(1, problem.multiply_adds)
    size = min(total, max(LEAST_SAMPLE, affordable))
    queries = np.arange(size) * total // size
    shares = []
    for query, exact in zip(queries, exact_search(problem, device=device, queries=queries), strict=True):
        if len(exact.documents):
            shares.append(np.isin(exact.documents, rankings[query].documents).mean())
    return CandidateRecall(at=problem.depth, value=float(np.mean(shares)) if shares else 1.0, queries=size)
