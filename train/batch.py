"""The forward and backward pass of one batch.

The pass is cut at the token embeddings: the loss is computed from them as if they were inputs, and its gradient with
respect to them is then propagated through the head and the backbone. The cut lets texts of similar length go through
the backbone together, lets a large batch go through it piece by piece (GradCache, Gao et al., 2021, arXiv:2101.06983),
and lets several processes share a batch. Value and gradient are those of the plain loss.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.profiler import record_function

from experiment.config import TrainConfig
from experiment.encoding.device import autocast
from experiment.seeds import seed_for
from projheads.scoring import maxsim, maxsim_nway
from train.data.examples import TrainingData
from train.embedding.embedders import BatchEmbedder, pad
from train.head_hooks import LossTerms
from train.matryoshka import prefixes
from train.processes import Processes

__all__ = ["BackwardPass", "batch_loss", "texts_of"]


@dataclass(frozen=True)
class _Embedded:
    """The queries or the documents of a batch.

    Attributes:
        rows: (T, d) their token embeddings, text after text, detached from what computed them.
        counts: (n,) embeddings per text.
        term: What the head adds to the loss: the mean over tokens, a scalar without gradient.
        backward: Propagates a gradient (T, d) of ``rows``, and a factor of the term, to the parameters.
    """

    rows: Tensor
    counts: Tensor
    term: Tensor
    backward: Callable[[Tensor, Tensor], None]


@dataclass(frozen=True)
class BackwardPass:
    """Adds the gradients of a batch to those of the parameters.

    Attributes:
        config: The training section of the configuration.
        head: The head.
        embed: Computes token embeddings.
        data: The training data.
        widths: Widths of the token embeddings that the loss is averaged over; empty for the full width only.
        seed: The trial's seed.
        scaler: Scales the loss in fp16.
        processes: The processes that share a batch; each computes its part of the gradients.
    """

    config: TrainConfig
    head: nn.Module
    embed: BatchEmbedder
    data: TrainingData
    widths: Sequence[int]
    seed: int
    scaler: GradScaler
    processes: Processes

    @cached_property
    def terms(self) -> LossTerms:
        """Collects what the head adds to the loss."""
        return LossTerms(self.head)

    def __call__(self, batch: np.ndarray, stream: tuple[str | int, ...]) -> Tensor:
        """Compute the loss of a batch and add its gradients to those of the parameters.

        Args:
            batch: (B,) rows of ``data.examples``, the same in every process.
            stream: Identifies the batch within the seed's dropout stream.

        Returns:
            This process's part of the loss, a scalar; the parts add up to the mean over the batch's queries.
        """
        data, processes = self.data, self.processes
        own, rotated = processes.share(batch)
        examples = texts_of(data, own)
        in_batch = self.config.loss.scope == "batch"
        with record_function("forward"):
            queries = self._embed(examples[:, 0], (*stream, "queries", processes.rank), is_query=True)
            documents = self._embed(examples[:, 1:].ravel(), (*stream, "documents", processes.rank), is_query=False)
        with record_function("loss"):
            rows, counts = documents.rows, documents.counts
            if in_batch:
                rows, counts = processes.gather(rows, counts)
            query_rows, document_rows = (leaf.detach().requires_grad_() for leaf in (queries.rows, rows))
            sides = (query_rows, queries.counts), (document_rows, counts)
            everyone = data.examples[rotated][:, : examples.shape[1]] if in_batch else None
            loss = batch_loss(self.config, data, self.widths, own, *sides, everyone) * (len(own) / len(batch))
            scaled: Tensor = self.scaler.scale(loss / self.config.gradient_accumulation)
            query_gradient, gradient = torch.autograd.grad(scaled, (query_rows, document_rows))
            if in_batch:
                gradient = processes.own_gradient(gradient, len(documents.rows))
            # The head's term is a mean over the tokens of queries and documents.
            share = len(own) / len(batch) / (len(queries.rows) + len(documents.rows))
            query_share, document_share = (share * len(side.rows) for side in (queries, documents))
            loss = loss.detach() + query_share * queries.term + document_share * documents.term
            unit: Tensor = self.scaler.scale(torch.ones_like(loss)) / self.config.gradient_accumulation
        with record_function("backward"):
            queries.backward(query_gradient, query_share * unit)
            documents.backward(gradient, document_share * unit)
        return loss

    @property
    def _device(self) -> torch.device:
        return next(self.head.parameters()).device

    def _embed(self, indices: np.ndarray, stream: tuple[str | int, ...], *, is_query: bool) -> _Embedded:
        """Embed texts in as many passes as is fastest, or in passes of ``mini_batch_size`` texts."""
        device, size = self._device, self.config.mini_batch_size
        cached = size is not None and size < len(indices)
        if size is not None and cached:
            order = np.argsort(-self.embed.lengths(indices, is_query=is_query), kind="stable")
            passes = np.split(order, range(size, len(order), size))
        else:
            passes = self.embed.passes(indices, is_query=is_query)

        def forward(number: int) -> tuple[Tensor, Tensor, list[Tensor]]:
            dropout = _dropout_stream(device, seed_for(self.seed, *stream, number))
            with dropout, autocast(device, self.config.precision), self.terms.collect() as terms:
                rows, counts = self.embed(self.head, indices[passes[number]], is_query=is_query)
            return rows, counts, terms

        with torch.set_grad_enabled(not cached):
            parts = [forward(number) for number in range(len(passes))]
        counts = torch.empty(len(indices), dtype=torch.long)
        for texts, (_, count, _) in zip(passes, parts, strict=True):
            counts[texts] = count
        places = [place.to(device) for place in _places(passes, counts)]
        rows = torch.empty(int(counts.sum()), parts[0][0].shape[1], device=device)
        term = torch.zeros((), device=device)
        for place, (part, _, terms) in zip(places, parts, strict=True):
            rows[place] = part.detach()
            for one in terms:
                term += one.detach() * (len(place) / len(rows))

        def backward(gradient: Tensor, factor: Tensor) -> None:
            for numbers in [[number] for number in range(len(passes))] if cached else [range(len(passes))]:
                tensors, gradients = [], []
                for number in numbers:
                    part, _, terms = forward(number) if cached else parts[number]
                    place = places[number]
                    tensors += [part, *terms]
                    gradients += [gradient[place], *[factor * (len(place) / len(rows))] * len(terms)]
                torch.autograd.backward(tensors, gradients)

        if cached:
            parts.clear()
        return _Embedded(rows, counts, term, backward)


def texts_of(data: TrainingData, batch: np.ndarray) -> np.ndarray:
    """Return the indices of a query and its documents, (B, 1 + n_ways), for rows of one source of the examples."""
    examples = data.examples[batch]
    kept: np.ndarray = examples[:, examples[0] >= 0]  # the tuples of a source are equally long
    return kept


def batch_loss(
    config: TrainConfig,
    data: TrainingData,
    widths: Sequence[int],
    batch: np.ndarray,
    queries: tuple[Tensor, Tensor],
    documents: tuple[Tensor, Tensor],
    everyone: np.ndarray | None,
) -> Tensor:
    """Compute the mean loss of a batch from its token embeddings.

    Args:
        config: The training section of the configuration.
        data: The training data.
        widths: Widths of the token embeddings that the loss is averaged over; empty for the full width only.
        batch: (B,) rows of ``data.examples``.
        queries: The embeddings of the queries' tokens, text after text, and their number per text.
        documents: The same of the documents; for a loss with in-batch negatives, of those of all processes.
        everyone: For such a loss, the texts of all processes, this one's first; None for the others.
    """
    query_tokens, query_mask = pad(*queries)
    document_tokens, document_mask = pad(*documents)
    ignore = teacher = None
    shape = (len(batch), texts_of(data, batch).shape[1] - 1)
    device = query_tokens.device
    if everyone is not None:
        ignore = torch.from_numpy(data.false_negatives(everyone)[: len(batch)]).to(device)
    if data.teacher_scores is not None:
        teacher = torch.from_numpy(data.teacher_scores[batch][:, : shape[1]]).to(device)
    losses = []
    for some_queries, some_documents in prefixes(query_tokens, document_tokens, widths):
        if everyone is not None:
            scores = maxsim(some_queries, some_documents, query_mask, document_mask)
        else:
            documents_of = some_documents.view(*shape, *some_documents.shape[1:])
            scores = maxsim_nway(some_queries, documents_of, query_mask, document_mask.view(*shape, -1))
        losses.append(config.loss(scores, n_ways=shape[1], ignore=ignore, teacher=teacher))
    return torch.stack(losses).mean()


def _places(passes: Sequence[np.ndarray], counts: Tensor) -> Iterator[Tensor]:
    """Yield the positions of each pass's rows when texts are in their original order, (T_pass,) int64."""
    starts = counts.cumsum(0) - counts
    for texts in passes:
        many = counts[texts]
        before = (many.cumsum(0) - many).repeat_interleave(many)
        yield starts[texts].repeat_interleave(many) + torch.arange(len(before)) - before


@contextmanager
def _dropout_stream(device: torch.device, seed: int) -> Iterator[None]:
    """Draw dropout from a separate stream; torch's global random state is restored afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
