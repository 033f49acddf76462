"""Search with PLAID, the index that PyLate uses by default (Santhanam et al., 2022), through fast-plaid."""

import warnings
from pathlib import Path

import numpy as np
import torch

from eval.search.ranking import NOTHING, Problem, Ranking
from experiment.disk.files import temporary_folder

__all__ = ["plaid_rankings"]

SEED = 42

FULL_SCORES = 8192
"""Documents of a query whose vectors are decoded and scored, as PyLate has it."""

LISTS = 8
"""Inverted lists that a query token visits, likewise."""


def plaid_rankings(problem: Problem, most: int, device: torch.device, cache: Path) -> tuple[list[Ranking], int]:
    """Rank documents by a PLAID index with the settings of PyLate: residuals of 4 bits a number.

    On the CPU the same vectors give the same index and rankings.

    Args:
        problem: Queries, corpus, and what is never found.
        most: Documents wanted for each query.
        device: Where the index is built and searched.
        cache: Where the index is, until the function returns.

    Returns:
        One ranking per query, and the bytes of the index on disk.
    """
    from fast_plaid.search import FastPlaid

    inside = np.flatnonzero(problem.documents.lengths > 0)
    lengths = problem.queries.lengths
    rankings = [NOTHING] * len(problem.queries)
    with temporary_folder(cache / "plaid") as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # fast-plaid draws the documents that it trains on from the global generator
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            vectors = [torch.from_numpy(problem.documents[int(text)]) for text in inside]
        with FastPlaid(index=str(folder), device=str(device)) as index:
            # Without `start_from_scratch`, all vectors of a small corpus would be kept on disk as well.
            index.create(vectors, seed=SEED, use_triton_kmeans=False, start_from_scratch=0)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            for length in np.unique(lengths[lengths > 0]).tolist():
                # Queries of one length, so that none is padded.
                asked = np.flatnonzero(lengths == length)
                given = torch.tensor(np.stack([problem.queries[int(query)] for query in asked]))
                found = index.search(
                    given,
                    top_k=min(most + problem.hidden.shape[1], len(inside)),  # more, for those that it never finds
                    n_full_scores=FULL_SCORES,
                    n_ivf_probe=LISTS,
                    show_progress=False,
                    n_processes=1,
                )
                for query, pairs in zip(asked.tolist(), found, strict=True):
                    rankings[query] = _ranking(problem, query, inside, pairs, most)
    return rankings, size


def _ranking(problem: Problem, query: int, inside: np.ndarray, pairs: list[tuple[int, float]], most: int) -> Ranking:
    documents = inside[np.array([place for place, _ in pairs], np.int64)]
    scores = np.array([score for _, score in pairs], np.float32)
    allowed = problem.may_find(query, documents)
    documents, scores = documents[allowed], scores[allowed]
    order = np.lexsort((-problem.priority[documents], -scores))[:most]
    return Ranking(documents[order], scores[order])
