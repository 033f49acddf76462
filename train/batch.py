"""One batch: its loss, and its gradients added to those of the parameters.

The pass is cut at the token embeddings. The loss is computed from them as from inputs of its own, and its gradient for
them is then sent through the head and the backbone. That cut is what lets texts of like length go through the backbone
together, lets a large batch go through it piece by piece (GradCache, Gao et al., 2021, arXiv:2101.06983), and lets
several processes share a batch; value and gradient are those of the plain loss.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.profiler import record_function

from experiment.config import TrainConfig
from experiment.encoding.device import autocast
from experiment.losses import Loss
from experiment.seeds import seed_for
from projheads.scoring import maxsim, maxsim_nway
from train.data.examples import TrainingData
from train.embedding.embedders import Embedder, pad
from train.matryoshka import prefixes
from train.processes import Processes

__all__ = ["backward_batch"]


@dataclass(frozen=True)
class _Embedded:
    """The queries or the documents of a batch.

    Attributes:
        rows: (T, d) their token embeddings, text after text, cut off from what computed them.
        counts: (n,) embeddings of each text.
        backward: Sends a gradient (T, d) of ``rows`` on to the parameters.
    """

    rows: Tensor
    counts: Tensor
    backward: Callable[[Tensor], None]


def backward_batch(
    settings: TrainConfig,
    loss_of: Loss,
    head: nn.Module,
    embed: Embedder,
    data: TrainingData,
    batch: np.ndarray,
    *,
    widths: Sequence[int] = (),
    seed: int,
    stream: tuple[str | int, ...],
    scaler: GradScaler,
    processes: Processes,
) -> Tensor:
    """Compute the loss of a batch and add its gradients to those of the parameters.

    Args:
        settings: The training section of the configuration.
        loss_of: The loss.
        head: The head.
        embed: Gives token embeddings.
        data: What is trained on.
        batch: (B,) rows of ``data.examples``, the same in every process.
        widths: Widths of the token embeddings that the loss is averaged over; none for the full one alone.
        seed: The trial's seed.
        stream: Names the batch within the seed's dropout stream.
        scaler: Scales the loss in fp16.
        processes: The processes that share the batch; the gradients are this one's part of the whole.

    Returns:
        This process's part of the loss, a scalar; the parts add up to the batch's mean over the queries.
    """
    own, turned = processes.share(batch)
    examples = data.examples[own]
    device = next(head.parameters()).device

    def embed_side(indices: np.ndarray, *, is_query: bool) -> _Embedded:
        side = (*stream, "queries" if is_query else "documents", processes.rank)
        return _embed(settings, head, embed, indices, is_query=is_query, seed=seed, stream=side)

    with record_function("forward"):
        queries = embed_side(examples[:, 0], is_query=True)
        documents = embed_side(examples[:, 1:].ravel(), is_query=False)
    with record_function("loss"):
        rows, counts = documents.rows, documents.counts
        if loss_of.scope == "batch":
            rows, counts = processes.gather(rows, counts)
        query_rows, document_rows = (leaf.detach().requires_grad_() for leaf in (queries.rows, rows))
        query_tokens, query_mask = pad(query_rows, queries.counts)
        document_tokens, document_mask = pad(document_rows, counts)
        ignore = teacher = None
        if loss_of.scope == "batch":
            ignore = torch.from_numpy(data.false_negatives(data.examples[turned])[: len(own)]).to(device)
        if data.teacher_scores is not None:
            teacher = torch.from_numpy(data.teacher_scores[own]).to(device)
        shape = (len(own), examples.shape[1] - 1)
        losses = []
        for some_queries, some_documents in prefixes(query_tokens, document_tokens, widths):
            if loss_of.scope == "batch":
                scores = maxsim(some_queries, some_documents, query_mask, document_mask)
            else:
                documents_of = some_documents.view(*shape, *some_documents.shape[1:])
                scores = maxsim_nway(some_queries, documents_of, query_mask, document_mask.view(*shape, -1))
            losses.append(loss_of(scores, n_ways=examples.shape[1] - 1, ignore=ignore, teacher=teacher))
        loss = torch.stack(losses).mean() * (len(own) / len(batch))
        scaled: Tensor = scaler.scale(loss / settings.gradient_accumulation)
        query_gradient, gradient = torch.autograd.grad(scaled, (query_rows, document_rows))
        if loss_of.scope == "batch":
            gradient = processes.own_gradient(gradient, len(documents.rows))
    with record_function("backward"):
        queries.backward(query_gradient)
        documents.backward(gradient)
    return loss.detach()


def _embed(
    settings: TrainConfig,
    head: nn.Module,
    embed: Embedder,
    indices: np.ndarray,
    *,
    is_query: bool,
    seed: int,
    stream: tuple[str | int, ...],
) -> _Embedded:
    """Embed texts in as many passes as is best, or in those of ``mini_batch_size`` texts."""
    device = next(head.parameters()).device
    cached = settings.mini_batch_size is not None and settings.mini_batch_size < len(indices)
    if cached:
        order = np.argsort(-embed.lengths(indices, is_query=is_query), kind="stable")
        passes = np.split(order, range(settings.mini_batch_size or 1, len(order), settings.mini_batch_size or 1))
    else:
        passes = embed.passes(indices, is_query=is_query)

    def forward(number: int) -> tuple[Tensor, Tensor]:
        with _dropout_stream(device, seed_for(seed, *stream, number)), autocast(device, settings.precision):
            return embed(head, indices[passes[number]], is_query=is_query)

    with torch.set_grad_enabled(not cached):
        parts = [forward(number) for number in range(len(passes))]
    counts = torch.empty(len(indices), dtype=torch.long)
    for texts, (_, count) in zip(passes, parts, strict=True):
        counts[texts] = count
    places = [place.to(device) for place in _places(passes, counts)]
    rows = torch.empty(int(counts.sum()), parts[0][0].shape[1], device=device)
    for place, (part, _) in zip(places, parts, strict=True):
        rows[place] = part.detach()

    def backward(gradient: Tensor) -> None:
        if not cached:
            torch.autograd.backward([part for part, _ in parts], [gradient[place] for place in places])
            return
        for number, place in enumerate(places):
            torch.autograd.backward(forward(number)[0], gradient[place])

    if cached:
        parts.clear()
    return _Embedded(rows, counts, backward)


def _places(passes: Sequence[np.ndarray], counts: Tensor) -> Iterator[Tensor]:
    """Yield where the rows of each pass lie when the texts lie in their own order, (T_pass,) int64."""
    starts = counts.cumsum(0) - counts
    for texts in passes:
        many = counts[texts]
        before = (many.cumsum(0) - many).repeat_interleave(many)
        yield starts[texts].repeat_interleave(many) + torch.arange(len(before)) - before


@contextmanager
def _dropout_stream(device: torch.device, seed: int) -> Iterator[None]:
    """Draw dropout from a stream of its own, and leave torch's global random state as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
