"""Exact MaxSim search: every query against every document, at nearly the speed of the bare matrix products.

It is exact over the vectors that it is given, which evaluation keeps as float16 unless ``eval.vectors`` says otherwise.

The corpus is read in windows, in the order of the disk. In a window, documents of similar length share a tile, in which
shorter ones repeat their last token vector (which changes no maximum), and the token vectors of several queries are one
matrix. So the similarities of a tile are one matrix product, whose maxima are taken while it is still in the CPU cache.
The scores of this pass only propose documents: every document that could be among the best ones within the rounding
error is scored again by ``eval.search.ranking.rank``.

The first pass multiplies in bf16 on a CPU that does so faster than in float32, with the fused kernel of
``projheads.scoring`` on a CUDA device that has it, and otherwise in float32. The results are the same, because the
error of each is bounded.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eval.search.ranking import (
    NOTHING,
    Problem,
    Ranking,
    rank,
    rounding_errors,
    shortlist,
    sums_over_tokens,
)
from experiment.encoding import windows
from experiment.encoding.device import resolve_precision
from experiment.encoding.store import TokenStore
from experiment.encoding.threads import over_threads
from projheads.errors import ProjheadsError
from projheads.scoring import maxsim

__all__ = ["FirstPass", "choose_first_pass", "exact_search", "score_all"]

FirstPass = Literal["fp32", "bf16", "fused"]
"""How the first pass multiplies."""

NORMS_AT_ONCE = 2**11
"""Token vectors whose norms are computed together: their copies in float32 stay in the CPU caches."""

BF16_ROUNDOFF = 2.0**-8

TILE_ON_CPU = (512, 2048)
"""Query tokens and document tokens of one matrix product: 4 MiB of similarities, which fit in the CPU caches."""

TILE_ELSEWHERE = (8192, 16384)

SPARE = 28
"""Documents kept beyond the depth in the first pass; a query with more scores too close to call is searched again."""

TIMES_DEPTH_IN_BF16 = 8
"""Documents kept in a first pass in bf16, in multiples of the depth; undecided queries are searched in fp32."""


def choose_first_pass(device: torch.device, documents: TokenStore) -> FirstPass:
    """Return how the first pass multiplies on a device."""
    if device.type == "cuda":
        token = torch.zeros(1, 1, documents.width, dtype=torch.float16, device=device)
        try:
            maxsim(token, token, backend="fused")
        except ProjheadsError:
            return "fp32"
        return "fused" if documents.vectors.dtype == np.float16 else "fp32"
    return "bf16" if device.type == "cpu" and resolve_precision("auto", device) == "bf16" else "fp32"


def exact_search(
    problem: Problem,
    *,
    device: torch.device,
    queries: np.ndarray | None = None,
    progress: Callable[[float], None] | None = None,
    first_pass: FirstPass | None = None,
    floors: np.ndarray | None = None,
) -> list[Ranking]:
    """Find the best documents of queries by scoring all documents.

    Args:
        problem: Queries, corpus and depth.
        device: Where the first pass is computed.
        queries: (n,) int64, the queries to answer; None for all.
        progress: Called with the share of the corpus that was searched since the last call.
        first_pass: How the first pass multiplies; None for ``choose_first_pass``.
        floors: (n_queries,) reported scores; documents that score less may be left out of a query's ranking, which
            saves work if ``depth`` documents of a different part of the corpus reach the floor. None for no floors.

    Returns:
        One ranking per query, in the order of ``queries``; empty for a query without token vectors.
    """
    wanted = np.arange(len(problem.queries)) if queries is None else queries
    findable = int((problem.documents.lengths > 0).sum())
    rankings = {int(query): NOTHING for query in wanted}
    lengths = problem.queries.lengths[wanted]
    # Longest first, so that queries that are padded together differ little in length.
    pending = wanted[np.argsort(-lengths, kind="stable")][: int((lengths > 0).sum())]
    how = first_pass or choose_first_pass(device, problem.documents)
    least = np.full(len(problem.queries), -np.inf) if floors is None else floors.astype(np.float64)
    kept = TIMES_DEPTH_IN_BF16 * problem.depth if how == "bf16" else problem.depth + SPARE
    while len(pending) and findable:
        kept = min(kept, findable)
        scores, documents, errors = score_all(problem, pending, kept, device, how, progress or (lambda share: None))
        undecided: list[int] = []
        decided: list[tuple[int, np.ndarray, np.ndarray]] = []
        for row, query in enumerate(pending):
            near = shortlist(scores[row], problem.depth, errors[row], least[query])
            if len(near) == kept < findable:
                undecided.append(query)
            else:
                limits = scores[row, near].astype(np.float64) + errors[row]
                decided.append((int(query), documents[row, near], limits))
        ranked = over_threads(lambda one: rank(problem, one[0], one[1], least[one[0]], one[2]), decided)
        rankings.update(zip((query for query, _, _ in decided), ranked, strict=True))
        kept = problem.depth + SPARE if how == "bf16" else 8 * kept
        pending, how, progress = np.array(undecided, dtype=np.int64), "fp32" if how == "bf16" else how, None
    return [rankings[int(query)] for query in wanted]


def score_all(
    problem: Problem,
    queries: np.ndarray,
    kept: int,
    device: torch.device,
    how: FirstPass,
    progress: Callable[[float], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score all documents.

    Returns:
        The ``kept`` best scores of each query (n, kept) in no particular order, minus infinity if there are fewer;
        their documents (n, kept); and the largest error of a score (n,).
    """
    query_rows, document_rows = TILE_ON_CPU if device.type == "cpu" else TILE_ELSEWHERE
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fused": torch.float16}[how]
    chunks = list(_chunks(problem.queries, queries, query_rows, device, dtype))
    best = torch.full((len(queries), kept), -torch.inf, device=device)
    documents = torch.full((len(queries), kept), -1, dtype=torch.int64, device=device)
    largest_norm = largest_residual = 0.0
    own = problem.hidden[queries]
    hidden = [(int(row), int(own[row, place])) for row, place in np.argwhere(own >= 0)]
    for window in _windows(problem.documents, device, dtype):
        scores = _score_window(chunks, window, document_rows, how)
        column = {int(document): column for column, document in enumerate(window.documents)}
        for row, document in hidden:
            if document in column:
                scores[row, column[document]] = -torch.inf
        here = scores.topk(min(kept, len(window.documents)), sorted=False)
        names = torch.from_numpy(window.documents).to(device)[here.indices]
        merged = torch.cat([best, here.values], 1).topk(kept, sorted=False)
        best, documents = merged.values, torch.cat([documents, names], 1).gather(1, merged.indices)
        largest_norm, largest_residual = max(largest_norm, window.norm), max(largest_residual, window.residual)
        progress(len(window.rows) / len(problem.documents.vectors))
        del window  # before the next one is read
    errors = _first_pass_errors(problem, queries, how, largest_norm, largest_residual)
    return best.cpu().numpy(), documents.cpu().numpy(), errors


def _first_pass_errors(
    problem: Problem, queries: np.ndarray, how: FirstPass, largest_norm: float, largest_residual: float
) -> np.ndarray:
    """Bound the error of scores of the first pass, (n,) float64.

    Tensor cores truncate their sums instead of rounding them, and not at every step: four times the bound of float32
    covers that. In bf16 the vectors are rounded, by known residuals, and then each similarity.
    """
    errors = rounding_errors(problem, queries, largest_norm)
    if how == "fused":
        return 4 * errors
    if how == "bf16":

        def rounded(rows: np.ndarray) -> np.ndarray:
            norms = np.linalg.norm(rows, axis=1)
            residuals = np.linalg.norm(rows - torch.from_numpy(rows).bfloat16().double().numpy(), axis=1)
            found = residuals * largest_norm + (norms + residuals) * largest_residual
            return np.asarray(found + BF16_ROUNDOFF * (norms + residuals) * (largest_norm + largest_residual))

        return np.asarray(2 * errors + sums_over_tokens(problem.queries, rounded)[queries])
    return errors


def _score_window(chunks: list["_Chunk"], window: "_Window", tile_rows: int, how: FirstPass) -> Tensor:
    """MaxSim (n_queries, n_documents) of chunks of queries with the documents of a window."""
    device = window.rows.device
    scores = torch.empty(sum(map(len, chunks)), len(window.documents), device=device)
    own = threading.local()

    def fill(tile: slice) -> None:
        longest = int(window.lengths[tile.start])
        # (longest, n_documents): maxima are over the first axis, of whole rows of similarities, while they are cached.
        places = window.starts[tile] + np.minimum(np.arange(longest)[:, None], window.lengths[tile] - 1)
        order = places.T if how == "fused" else places
        vectors = window.rows.index_select(0, torch.from_numpy(order.reshape(-1)).to(device))
        row = 0
        for chunk in chunks:
            if how == "fused":
                found = maxsim(chunk.padded, vectors.view(-1, longest, vectors.shape[1]), backend="fused")
            else:
                # Kept per thread, so that products do not allocate memory.
                size = len(vectors) * len(chunk.tokens)
                if len(getattr(own, "buffer", ())) < size:
                    own.buffer = torch.empty(size, device=device, dtype=vectors.dtype)
                similarities = own.buffer[:size].view(len(vectors), -1)
                torch.mm(vectors, chunk.tokens.T, out=similarities)
                found = (_maxima(similarities.view(longest, -1, len(chunk.tokens))).float() @ chunk.owners).T
            scores[row : row + len(chunk), tile] = found
            row += len(chunk)

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


def _maxima(similarities: Tensor) -> Tensor:
    """Return the largest similarity of each document and query token (n, m), of similarities (L, n, m).

    Numbers in bf16 are compared as the integers of their bits, which takes a third of the time. Among them, the larger
    integer is the larger number unless both are negative; then it is the smaller.
    """
    if similarities.dtype != torch.bfloat16:
        return similarities.amax(0)
    bits = similarities.view(torch.int16)
    best = bits.amax(0)
    if int(best.min()) < 0:
        best = torch.where(best < 0, bits.amin(0), best)
    return best.view(torch.bfloat16)


@dataclass(frozen=True)
class _Window:
    """A part of the corpus on the device.

    Attributes:
        documents: (n,) int64, those with a token vector, longest first.
        starts: (n,) int64, where each starts in ``rows``.
        lengths: (n,) int64, token vectors of each.
        rows: (n_rows, width), their token vectors in the precision of the products.
        norm: Largest norm of a token vector.
        residual: Largest norm of the rounding error of a token vector in that precision.
    """

    documents: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    rows: Tensor
    norm: float
    residual: float


def _windows(store: TokenStore, device: torch.device, dtype: torch.dtype) -> Iterator[_Window]:
    """Read a corpus from its first document to its last, at least one per window, and keep none of them."""
    first, offsets, size = 0, store.offsets, windows.SEARCHED_BYTES // (4 * store.width)
    while first < len(store):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1)
        if offsets[last] > offsets[first]:
            yield _window(store, first, last, device, dtype)
        first = last


def _window(store: TokenStore, first: int, last: int, device: torch.device, dtype: torch.dtype) -> _Window:
    """Read the documents from ``first`` up to, not including, ``last``, which have token vectors."""
    offsets = store.offsets
    lengths = np.diff(offsets[first : last + 1])
    inside = np.argsort(-lengths, kind="stable")[: int((lengths > 0).sum())]
    stored = torch.tensor(store.vectors[offsets[first] : offsets[last]]).to(device)
    rows = stored.to(dtype)
    return _Window(
        first + inside, offsets[first + inside] - offsets[first], lengths[inside], rows, *_largest(stored, rows)
    )


def _largest(stored: Tensor, rows: Tensor) -> tuple[float, float]:
    """Return the largest norm of stored vectors, and of what they lost in the precision of ``rows``."""
    # Two numbers, not lists of them: what stays allocated between large blocks makes the heap grow.
    norm, lost = torch.zeros((), device=stored.device), torch.zeros((), device=stored.device)
    for before, after in zip(torch.split(stored, NORMS_AT_ONCE), torch.split(rows, NORMS_AT_ONCE), strict=True):
        exact = before.float()
        torch.maximum(norm, torch.linalg.vector_norm(exact, dim=1).max(), out=norm)
        torch.maximum(lost, torch.linalg.vector_norm(exact - after, dim=1).max(), out=lost)
    return float(norm), float(lost)


@dataclass(frozen=True)
class _Chunk:
    """A few queries on the device.

    Attributes:
        padded: (B, Lq, width), with zero vectors after the tokens of a query, which add 0 to a score.
        real: (B, Lq) bool, which of them are token vectors.
    """

    padded: Tensor
    real: Tensor

    def __len__(self) -> int:
        return len(self.padded)

    @cached_property
    def tokens(self) -> Tensor:
        """The token vectors alone, (m, width)."""
        return self.padded[self.real]

    @cached_property
    def owners(self) -> Tensor:
        """1 where a token vector is the query's and 0 elsewhere, (m, B) float32."""
        return torch.eye(len(self), device=self.real.device).repeat_interleave(self.real.sum(1), dim=0)


def _chunks(
    store: TokenStore, queries: np.ndarray, rows: int, device: torch.device, dtype: torch.dtype
) -> Iterator[_Chunk]:
    """Divide queries, longest first, into chunks of about ``rows`` token vectors."""
    first = 0
    while first < len(queries):
        longest = int(store.lengths[queries[first]])
        chosen = queries[first : first + max(1, rows // longest)]
        padded = torch.zeros(len(chosen), longest, store.width)
        for place, query in zip(padded, chosen, strict=True):
            place[: store.lengths[query]] = torch.tensor(store[int(query)])
        real = torch.arange(longest) < torch.from_numpy(store.lengths[chosen])[:, None]
        yield _Chunk(padded.to(device, dtype), real.to(device))
        first += len(chosen)
