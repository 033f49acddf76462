"""The further searches of ``eval.searches``, by kind; see ``experiment.config.search_forms``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from eval.search.choice import SearchSettings
from eval.search.compressed import stored_as
from eval.search.faiss_index import build_index, faiss_search
from eval.search.fde import fde_rankings
from eval.search.plaid import plaid_rankings
from eval.search.ranking import Problem, Ranking, rank
from experiment.config.search_forms import FAISS, SearchForm, check_search_form, parse_search
from experiment.config.storage_forms import parse_storage
from experiment.encoding.threads import over_threads

__all__ = ["FAST_VERSION", "KINDS", "Found", "Setup", "check_searches", "fast_search", "rescored"]

FAST_VERSION = 1
"""Raised when a change to the code changes what a search finds; existing results are then recomputed."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        rankings: One per query and at most ``max_candidates`` long, by the search's own scores.
        bytes_per_vector: Bytes of a document's vector: of its one encoding, or of a token vector on average.
        index_bytes: Bytes of what is searched.
    """

    rankings: list[Ranking]
    bytes_per_vector: int
    index_bytes: int


@dataclass(frozen=True)
class Setup:
    """How to search.

    Attributes:
        form: The search.
        settings: The candidates of a query, among others.
        device: Where indexes are built and searched; encodings are compared on the CPU.
        cache: Folder for temporary files.
        progress: Called with the share of the search that was done since the last call.
    """

    form: SearchForm
    settings: SearchSettings
    device: torch.device
    cache: Path
    progress: Callable[[float], None]

    def most(self, problem: Problem) -> int:
        """Return how many candidates of a query are wanted."""
        return min(self.settings.max_candidates or problem.depth, len(problem.documents))


def check_searches(names: Sequence[str], out_features: int) -> None:
    """Check the configured searches before anything is encoded.

    Raises:
        ProjheadsError: If a name is unknown, a package is missing, or FAISS cannot build an index.
    """
    for name in names:
        check_search_form(parse_search(name), out_features)


def fast_search(problem: Problem, setup: Setup) -> Found:
    """Search, and return the candidates.

    Raises:
        ProjheadsError: If FAISS cannot build the index.
    """
    search = KINDS[setup.form.kind]
    if not setup.form.centred:
        return search(problem, setup)
    with stored_as(parse_storage("centred"), problem.queries, problem.documents, setup.cache) as stored:
        return search(replace(problem, queries=stored.queries, documents=stored.documents), setup)


def rescored(problem: Problem, rankings: Sequence[Ranking]) -> list[Ranking]:
    """Rank the documents of each query's ranking by exact MaxSim."""
    return over_threads(lambda item: rank(problem, item[0], item[1].documents), list(enumerate(rankings)))


def _fde(problem: Problem, setup: Setup) -> Found:
    options, most = setup.form.options, setup.most(problem)
    rankings, numbers = fde_rankings(problem, options, most, setup.cache, setup.progress)
    return Found(rankings, 4 * numbers, 4 * numbers * len(problem.documents))


def _plaid(problem: Problem, setup: Setup) -> Found:
    rankings, size = plaid_rankings(problem, setup.most(problem), setup.device, setup.cache)
    return Found(rankings, round(size / len(problem.documents.vectors)), size)


def _faiss(problem: Problem, setup: Setup) -> Found:
    index = build_index(problem.documents, setup.form.name, None, setup.device, key="eval.searches")
    settings = setup.settings
    rankings = faiss_search(
        problem,
        index,
        candidates_per_token=settings.candidates_per_token,
        max_candidates=settings.max_candidates,
        progress=setup.progress,
    )
    return Found(rankings, round(index.bytes / len(problem.documents.vectors)), index.bytes)


KINDS: dict[str, Callable[[Problem, Setup], Found]] = {"fde": _fde, "plaid": _plaid, FAISS: _faiss}
"""The searches, by the names of ``SEARCHES``."""
