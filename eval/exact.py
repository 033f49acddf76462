"""Exact MaxSim search: every query against every document, near the speed of the bare matrix products.

The corpus is walked in windows that lie one after another on the disk. In a window, documents of like length share a
tile, in which shorter ones repeat their last token vector (that changes no maximum); queries are padded with zero
vectors (that add 0 to the sum). So the similarities of a tile are one matrix product, and its maxima one reduction over
an axis while the product is still in the cache. The scores of this pass, in float32, only propose documents: every one
that the rounding error can hide among the wanted ones is scored again by ``eval.ranking.rank``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eval.ranking import NOTHING, Problem, Ranking, rank, rounding_errors, shortlist
from eval.threads import over_threads
from experiment.token_store import TokenStore

__all__ = ["exact_search"]

WINDOW_BYTES = 2**28
"""Document vectors, in float32, that are on the device at once."""

TILE_ON_CPU = (512, 2048)
"""Query tokens and document tokens of one matrix product: 4 MiB of similarities, which the caches take."""

TILE_ELSEWHERE = (8192, 16384)

SPARE = 28
"""Documents kept beyond the depth in the first pass; a query whose border is more crowded is searched again."""


def exact_search(
    problem: Problem,
    *,
    device: torch.device,
    queries: np.ndarray | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Ranking]:
    """Find the best documents of queries by scoring all documents.

    Args:
        problem: Queries, corpus and depth.
        device: Where the first pass is computed.
        queries: (n,) int64, the queries that are answered; None for all.
        progress: Called with the share of the corpus that has been walked since its last call.

    Returns:
        One ranking for each of ``queries``, in their order; empty for a query without token vectors.
    """
    wanted = np.arange(len(problem.queries)) if queries is None else queries
    findable = int((problem.documents.lengths > 0).sum())
    rankings = {int(query): NOTHING for query in wanted}
    lengths = problem.queries.lengths[wanted]
    # Longest first, so that the chunks of queries that are padded together differ little in length.
    pending = wanted[np.argsort(-lengths, kind="stable")][: int((lengths > 0).sum())]
    kept = problem.depth + SPARE
    while len(pending) and findable:
        kept = min(kept, findable)
        scores, documents, largest_norm = _first_pass(problem, pending, kept, device, progress or (lambda share: None))
        errors = rounding_errors(problem, pending, largest_norm)
        undecided, shortlists = [], {}
        for row, query in enumerate(pending):
            near = shortlist(scores[row], problem.depth, errors[row])
            if len(near) == kept < findable:
                undecided.append(query)
            else:
                shortlists[int(query)] = documents[row, near]
        ranked = over_threads(lambda item: rank(problem, *item), shortlists.items())
        rankings.update(zip(shortlists, ranked, strict=True))
        pending, kept, progress = np.array(undecided, dtype=np.int64), 8 * kept, None
    return [rankings[int(query)] for query in wanted]


def _first_pass(
    problem: Problem, queries: np.ndarray, kept: int, device: torch.device, progress: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Score all documents in float32.

    Returns:
        The ``kept`` best scores of each query (n, kept) in no particular order, minus infinity where there are fewer;
        their documents (n, kept); and the largest norm of a document token vector.
    """
    query_rows, document_rows = TILE_ON_CPU if device.type == "cpu" else TILE_ELSEWHERE
    chunks = [chunk.to(device) for chunk in _chunks(problem.queries, queries, query_rows)]
    best = torch.full((len(queries), kept), -torch.inf, device=device)
    documents = torch.full((len(queries), kept), -1, dtype=torch.int64, device=device)
    largest_norm = 0.0
    for window in _windows(problem.documents, device):
        scores = _score_window(chunks, window, document_rows)
        column = {int(document): column for column, document in enumerate(window.documents)}
        for row, own in enumerate(problem.own[queries]):
            if int(own) in column:
                scores[row, column[int(own)]] = -torch.inf
        here = scores.topk(min(kept, len(window.documents)), sorted=False)
        names = torch.from_numpy(window.documents).to(device)[here.indices]
        merged = torch.cat([best, here.values], 1).topk(kept, sorted=False)
        best, documents = merged.values, torch.cat([documents, names], 1).gather(1, merged.indices)
        largest_norm = max(largest_norm, float(torch.linalg.vector_norm(window.rows, dim=1).max()))
        progress(len(window.rows) / len(problem.documents.vectors))
    return best.cpu().numpy(), documents.cpu().numpy(), largest_norm


def _score_window(chunks: list[Tensor], window: "_Window", tile_rows: int) -> Tensor:
    """MaxSim (n_queries, n_documents) of padded queries, each chunk (B, Lq, width), with the documents of a window."""
    device = window.rows.device
    scores = torch.empty(sum(map(len, chunks)), len(window.documents), device=device)

    def fill(tile: slice) -> None:
        longest = int(window.lengths[tile.start])
        inside = np.minimum(np.arange(longest), window.lengths[tile, None] - 1)
        vectors = window.rows[torch.from_numpy((window.starts[tile, None] + inside).ravel()).to(device)]
        buffer = torch.empty(max(chunk.shape[0] * chunk.shape[1] for chunk in chunks) * len(vectors), device=device)
        row = 0
        for chunk in chunks:
            size, length, _ = chunk.shape
            products = buffer[: size * length * len(vectors)].view(size * length, len(vectors))
            torch.mm(chunk.flatten(0, 1), vectors.T, out=products)
            scores[row : row + size, tile] = products.view(size, length, -1, longest).amax(3).sum(1)
            row += size

    tiles, column = [], 0
    while column < len(window.documents):
        tiles.append(slice(column, column + max(1, tile_rows // int(window.lengths[column]))))
        column = tiles[-1].stop
    if device.type == "cpu":
        over_threads(fill, tiles)
    else:
        for tile in tiles:
            fill(tile)
    return scores


@dataclass(frozen=True)
class _Window:
    """A stretch of the corpus on the device.

    Attributes:
        documents: (n,) int64, those with a token vector, longest first.
        starts: (n,) int64, where in ``rows`` each begins.
        lengths: (n,) int64, token vectors of each.
        rows: (n_rows, width) float32, the token vectors of the whole stretch.
    """

    documents: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    rows: Tensor


def _windows(store: TokenStore, device: torch.device) -> Iterator[_Window]:
    """Walk a corpus from its first document to its last, at least one a window."""
    first, offsets, size = 0, store.offsets, WINDOW_BYTES // (4 * store.width)
    while first < len(store):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1)
        lengths = np.diff(offsets[first : last + 1])
        inside = np.argsort(-lengths, kind="stable")[: int((lengths > 0).sum())]
        if len(inside):
            rows = torch.tensor(store.vectors[offsets[first] : offsets[last]]).to(device).float()
            yield _Window(first + inside, offsets[first + inside] - offsets[first], lengths[inside], rows)
        first = last


def _chunks(store: TokenStore, queries: np.ndarray, rows: int) -> Iterator[Tensor]:
    """Pad queries, longest first, with zero vectors: chunks (B, Lq, width) float32 of about ``rows`` rows."""
    first = 0
    while first < len(queries):
        longest = int(store.lengths[queries[first]])
        chosen = queries[first : first + max(1, rows // longest)]
        padded = torch.zeros(len(chosen), longest, store.width)
        for place, query in zip(padded, chosen, strict=True):
            place[: store.lengths[query]] = torch.tensor(store[int(query)])
        yield padded
        first += len(chosen)
