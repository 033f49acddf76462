"""MaxSim, the score of late interaction: a reference implementation and faster equivalents.

    score(q, d) = sum over query tokens i of  max over document tokens j of  <q_i, d_j>

(Khattab and Zaharia, 2020, arXiv:2004.12832). Masked document tokens are excluded from the maximum and masked query
tokens from the sum; neither is multiplied by 0, which would let padding beat a negative similarity.

Similarities are computed and summed in float32, whatever the precision of the embeddings or of a surrounding autocast
region (float64 stays float64). A document with no unmasked token scores ``LOWEST_SCORE``, which is finite so that the
loss is finite, and gets no gradient.

Backends: ``reference`` is the literal definition. ``blocked`` never holds the similarities of more than one block of
documents. ``fused`` runs the Triton kernels of late-interaction-kernels, which multiply in half precision and so accept
only half-precision embeddings. ``auto`` uses ``fused`` if it can run, else ``blocked`` on CPU and CUDA devices, and
``reference`` on other devices.
"""

import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from projheads.errors import ProjheadsError, unknown_name

__all__ = ["BACKENDS", "LOWEST_SCORE", "Backend", "maxsim", "maxsim_nway"]

Backend = Literal["auto", "reference", "blocked", "fused"]
BACKENDS: tuple[Backend, ...] = ("auto", "reference", "blocked", "fused")

# Masked tokens are zero, which the fused kernels take for embeddings that nobody normalised.
warnings.filterwarnings("ignore", message=r"late-interaction-kernels: .*median L2 norm is 0\.000")

# The score of a document without tokens: below every score of unit vectors, with weight exactly 0 in a softmax.
LOWEST_SCORE = -1.0e4

# Similarities held at once: about the size of a core's cache on a CPU, 256 MiB of float32 elsewhere.
_BLOCK_ON_CPU = 2**19
_BLOCK_ELSEWHERE = 2**26


def maxsim(
    queries: Tensor,
    documents: Tensor,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Score every query against every document, as a loss with in-batch negatives needs.

    Args:
        queries: Token embeddings (Bq, Lq, d).
        documents: Token embeddings (Bd, Ld, d).
        queries_mask: Tokens included in the sum, bool (Bq, Lq); None for all.
        documents_mask: Tokens included in the maximum, bool (Bd, Ld); None for all.
        backend: One of ``BACKENDS``.

    Returns:
        Scores (Bq, Bd), float32 (float64 for float64 embeddings).

    Raises:
        ProjheadsError: If shapes do not match, the backend is unknown, or ``fused`` cannot run.
    """
    _check("maxsim", queries, documents, 3, queries_mask, documents_mask)
    backend = _choose(backend, queries, documents)
    if backend == "fused":
        return _fused(queries, documents, queries_mask, documents_mask)
    one_group = None if documents_mask is None else documents_mask[None]
    best = _best(_zero_masked(queries, queries_mask).flatten(0, 1)[None], documents[None], one_group, backend)
    best = best.view(documents.shape[0], *queries.shape[:2]).transpose(0, 1)
    return _lowest_if_empty(best.sum(-1), documents_mask)


def maxsim_nway(
    queries: Tensor,
    documents: Tensor,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Score every query against its own n documents, as hard negatives and distillation need.

    Args:
        queries: Token embeddings (B, Lq, d).
        documents: Token embeddings (B, n, Ld, d).
        queries_mask: Tokens included in the sum, bool (B, Lq); None for all.
        documents_mask: Tokens included in the maximum, bool (B, n, Ld); None for all. Mask
            every token of a missing document.
        backend: One of ``BACKENDS``.

    Returns:
        Scores (B, n), float32 (float64 for float64 embeddings).

    Raises:
        ProjheadsError: If shapes do not match, the backend is unknown, or ``fused`` cannot run.
    """
    _check("maxsim_nway", queries, documents, 4, queries_mask, documents_mask)
    backend = _choose(backend, queries, documents)
    if backend == "fused":
        return _fused(queries, documents, queries_mask, documents_mask)
    best = _best(_zero_masked(queries, queries_mask), documents, documents_mask, backend)
    return _lowest_if_empty(best.sum(-1), documents_mask)


def _best(queries: Tensor, documents: Tensor, documents_mask: Tensor | None, backend: Backend) -> Tensor:
    """Return the maximum similarity of each query token with each document of its group.

    Args:
        queries: (G, R, d), the R query tokens of each group.
        documents: (G, N, L, d), the N documents of each group.
        documents_mask: (G, N, L) or None.
        backend: ``reference`` or ``blocked``.

    Returns:
        (G, N, R), float32 or float64; undefined for documents without tokens.
    """
    documents = _zero_masked(documents, documents_mask)
    with torch.autocast(queries.device.type, enabled=False):
        if backend == "reference":
            return _best_reference(queries, documents, documents_mask)
        best: Tensor = _BestBlocked.apply(queries, documents, documents_mask)  # type: ignore[no-untyped-call]
        return best


def _best_reference(queries: Tensor, documents: Tensor, documents_mask: Tensor | None) -> Tensor:
    similarities = torch.einsum("grd,gnld->gnrl", _wide(queries), _wide(documents))
    if documents_mask is not None:
        similarities = similarities.masked_fill(~documents_mask[:, :, None, :], -torch.inf)
    return similarities.max(dim=-1).values


class _BestBlocked(torch.autograd.Function):
    """``_best_reference`` in blocks of documents, saving only the position of each maximum for the backward pass.

    Token embeddings are addressed as rows of one matrix (G * N * L, d). Documents are the first axis of a block's
    product so that the maximum runs down columns, which a CPU vectorises over columns.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, documents: Tensor, documents_mask: Tensor | None) -> Tensor:
        columns, rows = _wide(queries).transpose(1, 2), documents.flatten(0, 2)
        order, lengths = _scored_first(documents, documents_mask)
        best = columns.new_empty(*documents.shape[:2], columns.shape[2])
        where = torch.empty_like(best, dtype=torch.int32) if any(ctx.needs_input_grad) else None
        for block in _blocks(best, documents.shape[2]):
            longest = max(1, int(lengths[block].max()))
            taken = order[block][:, :, :longest]
            similarities = torch.bmm(_wide(rows[taken.flatten(1)]), columns[block[0]]).view(*taken.shape, -1)
            if int(lengths[block].min()) < longest:
                beyond = torch.arange(longest) >= lengths[block][..., None]
                similarities.masked_fill_(beyond.to(best.device)[..., None], -torch.inf)
            best[block] = similarities.amax(2)
            if where is not None:
                first = _first_equal(similarities, best[block])
                where[block] = taken.gather(2, first).int()
        ctx.save_for_backward(queries, documents, where)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        queries, documents, where = ctx.saved_tensors
        _, count, tokens = where.shape
        query_rows, document_rows = _wide(queries).flatten(0, 1), _wide(documents).flatten(0, 2)
        queries_gradient = documents_gradient = None
        if ctx.needs_input_grad[0]:
            winners, weights = (x.transpose(1, 2).reshape(-1, count) for x in (where, gradient))
            summed = F.embedding_bag(winners, document_rows, mode="sum", per_sample_weights=weights)
            queries_gradient = summed.view(queries.shape).to(queries.dtype)
        if ctx.needs_input_grad[1]:
            # Sorting by winning row makes the query tokens that chose a row adjacent: one bag per row, in a fixed
            # order, whereas an atomic add would not be reproducible.
            winners, position = torch.sort(where.flatten(), stable=True)
            starts = torch.searchsorted(winners, torch.arange(document_rows.shape[0], device=winners.device))
            chosen_by = position // (count * tokens) * tokens + position % tokens
            weights = gradient.flatten()[position]
            summed = F.embedding_bag(chosen_by, query_rows, starts, mode="sum", per_sample_weights=weights)
            documents_gradient = summed.view(documents.shape).to(documents.dtype)
        return queries_gradient, documents_gradient, None


def _scored_first(documents: Tensor, documents_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return each document's rows with the unmasked ones first (G, N, L), and their number (G, N) on the CPU."""
    rows = torch.arange(documents[..., 0].numel(), device=documents.device).view(documents.shape[:3])
    if documents_mask is None:
        return rows, torch.full(documents.shape[:2], documents.shape[2])
    order = (~documents_mask).to(torch.uint8).argsort(dim=-1, stable=True)
    return rows.gather(2, order), documents_mask.sum(-1).cpu()


def _first_equal(similarities: Tensor, best: Tensor) -> Tensor:
    """Return the first index along axis 2 of (g, n, l, r) that equals ``best`` (g, n, r); overwrites ``similarities``.

    Makes three vectorised passes; ``max`` with indices takes twice as long on a CPU.
    """
    last = similarities.shape[2] - 1
    countdown = torch.arange(last, -1, -1, dtype=similarities.dtype, device=similarities.device)
    return last - similarities.eq_(best[:, :, None]).mul_(countdown[:, None]).amax(2).long()


def _blocks(best: Tensor, length: int) -> Iterator[tuple[slice, slice]]:
    """Split (G, N) into blocks whose similarities with R query tokens fit the limit, of at least one document each."""
    groups, count, tokens = best.shape
    limit = _BLOCK_ON_CPU if best.device.type == "cpu" else _BLOCK_ELSEWHERE
    documents = max(1, limit // (length * tokens))
    some_groups = max(1, documents // count)
    for group in range(0, groups, some_groups):
        for document in range(0, count, documents):
            yield slice(group, group + some_groups), slice(document, document + documents)


def _lowest_if_empty(scores: Tensor, documents_mask: Tensor | None) -> Tensor:
    return scores if documents_mask is None else scores.masked_fill(~documents_mask.any(-1), LOWEST_SCORE)


def _wide(embeddings: Tensor) -> Tensor:
    """Convert to the precision used for similarities."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def _zero_masked(embeddings: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the excluded vectors, so that query tokens add 0 to the sum and no NaN reaches a gradient."""
    return embeddings if mask is None else embeddings.masked_fill(~mask[..., None], 0.0)


def _fused(queries: Tensor, documents: Tensor, queries_mask: Tensor | None, documents_mask: Tensor | None) -> Tensor:
    from late_interaction_kernels.autograd import maxsim as kernel

    # The kernels cannot score a document without tokens, so its first token is unmasked and its score replaced later.
    tokens = documents_mask
    if documents_mask is not None:
        tokens = documents_mask.clone()
        tokens[..., 0] |= ~documents_mask.any(-1)
    queries = _zero_masked(queries, queries_mask)
    documents = _zero_masked(documents, documents_mask)
    # The kernels' fast backward pass adds atomically, in no fixed order.
    backward = "lowmem" if torch.are_deterministic_algorithms_enabled() else None
    scores: Tensor = kernel(queries, documents, q_mask=queries_mask, d_mask=tokens, backward=backward)
    return _lowest_if_empty(scores, documents_mask)


def _choose(backend: Backend, queries: Tensor, documents: Tensor) -> Backend:
    """Resolve ``auto``, and raise an error if ``fused`` was requested and cannot run."""
    if backend not in BACKENDS:
        raise unknown_name("MaxSim backend", backend, BACKENDS)
    if backend in ("reference", "blocked"):
        return backend
    why_not = _why_not_fused(queries, documents)
    if backend == "fused" and why_not:
        raise ProjheadsError(f'MaxSim backend "fused" {why_not}; use backend="blocked"')
    if why_not:
        return "blocked" if queries.device.type in ("cpu", "cuda") else "reference"
    return "fused"


def _why_not_fused(queries: Tensor, documents: Tensor) -> str | None:
    width = queries.shape[-1]
    if not queries.is_cuda:
        return f"needs a CUDA device, but the embeddings are on {queries.device.type}"
    if importlib.util.find_spec("late_interaction_kernels") is None:
        return "needs the package late-interaction-kernels"
    if queries.dtype not in (torch.float16, torch.bfloat16) or documents.dtype != queries.dtype:
        return f"needs half-precision embeddings, not {queries.dtype} and {documents.dtype}"
    if width % 8 or not 8 <= width <= 256:
        return f"needs an embedding width that is a multiple of 8 and at most 256, not {width}"
    if torch.cuda.get_device_capability(queries.device)[0] < 8:
        return "needs a GPU with compute capability 8.0 or higher"
    return None


def _check(
    function: str,
    queries: Tensor,
    documents: Tensor,
    dimensions: int,
    queries_mask: Tensor | None,
    documents_mask: Tensor | None,
) -> None:
    """Raise an error if shapes or dtypes do not match."""
    if queries.ndim != 3 or documents.ndim != dimensions or queries.shape[-1] != documents.shape[-1]:
        wanted = "(Bd, Ld, d)" if dimensions == 3 else "(B, n, Ld, d)"
        got = f"{tuple(queries.shape)} and {tuple(documents.shape)}"
        raise ProjheadsError(f"{function}: expected queries (Bq, Lq, d) and documents {wanted}, got {got}")
    if 0 in queries.shape or 0 in documents.shape:
        got = f"{tuple(queries.shape)} and {tuple(documents.shape)}"
        raise ProjheadsError(f"{function}: queries and documents need at least one text and one token, got {got}")
    if dimensions == 4 and queries.shape[0] != documents.shape[0]:
        got = f"{queries.shape[0]} queries and documents for {documents.shape[0]}"
        raise ProjheadsError(f"{function}: every query needs its own documents, got {got}")
    for name, embeddings, mask in (("queries", queries, queries_mask), ("documents", documents, documents_mask)):
        if mask is not None and (mask.dtype != torch.bool or mask.shape != embeddings.shape[:-1]):
            got = f"{mask.dtype} {tuple(mask.shape)}"
            raise ProjheadsError(f"{function}: {name}_mask must be bool {tuple(embeddings.shape[:-1])}, got {got}")
