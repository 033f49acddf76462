"""How fast this machine searches and projects, from a small made-up problem that takes a fraction of a second."""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from eval.embed import project_tokens
from eval.search.exact import choose_first_pass, score_all
from eval.search.ranking import Problem, rank
from experiment.encoding.speed import fastest
from experiment.encoding.store import TokenStore, offsets_of
from experiment.encoding.threads import over_threads

__all__ = ["SearchSpeed", "search_speed", "seconds_of_linear_head"]

QUERIES, DOCUMENTS, QUERY_LENGTH, DOCUMENT_LENGTH = 32, 1024, 32, 32
RANKED = 128
ROUNDS = 2


@dataclass(frozen=True)
class SearchSpeed:
    """How fast exact search is.

    Attributes:
        per_multiply_add: Seconds for each multiply-add of the first pass.
        per_ranked: Seconds for each multiply-add of the documents that are scored again.
    """

    per_multiply_add: float
    per_ranked: float


@lru_cache
def search_speed(width: int, device: torch.device, threads: int) -> SearchSpeed:
    """Measure exact search with token embeddings of a width, on so many threads as torch uses."""
    drawn = torch.Generator().manual_seed(0)

    def store(texts: int, length: int) -> TokenStore:
        vectors = torch.nn.functional.normalize(torch.randn(texts * length, width, generator=drawn), dim=1)
        return TokenStore(vectors.numpy().astype(np.float16), offsets_of(np.full(texts, length)))

    queries, documents = store(QUERIES, QUERY_LENGTH), store(DOCUMENTS, DOCUMENT_LENGTH)
    nobody = np.full(QUERIES, -1)
    problem, every = Problem(queries, documents, RANKED, np.arange(DOCUMENTS), nobody), np.arange(QUERIES)
    how = choose_first_pass(device, documents)
    scored = fastest(lambda: score_all(problem, every, RANKED, device, how, lambda share: None), ROUNDS)
    chosen = np.arange(RANKED)
    ranked = fastest(lambda: over_threads(lambda query: rank(problem, query, chosen), range(QUERIES)), ROUNDS)
    return SearchSpeed(scored / problem.multiply_adds, ranked / (problem.multiply_adds * RANKED / DOCUMENTS))


@lru_cache
def seconds_of_linear_head(width: int, out_features: int, device: torch.device, precision: str, threads: int) -> float:
    """Measure how long a linear head takes for a token state, on so many threads as torch uses."""
    rows = QUERIES * 256
    states = TokenStore(np.ones((rows, width), np.float16), np.array([0, rows]))
    head = torch.nn.Linear(width, out_features)
    return fastest(lambda: project_tokens(states, head, io.BytesIO(), device, precision), ROUNDS) / rows
