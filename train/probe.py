"""How gradients flow through the head under MaxSim: measured on a fixed batch at the start, in the middle, at the end.

Only the token that wins a query token gets gradient from it. The probe says how many tokens win, how often the winner
changes from one step to the next, and in which directions the gradient pushes the head. The head's map is a matrix W:
exact for a linear head, otherwise the least-squares fit of the head's outputs to the token states of the batch. Its
gradient is the sum over tokens of g x^T, with x the token state and g the gradient of the head's output: what a matrix
added to the head would receive. A probe draws nothing and changes nothing, so training has the same bits without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiment.config import TrainConfig
from experiment.disk.records import ProbePoint, TrainLine
from experiment.encoding.device import autocast
from experiment.spectra import effective_rank
from projheads.folding import fold, folds
from train.batch import batch_loss, texts_of
from train.data.examples import TrainingData
from train.embedding.embedders import BatchEmbedder, pad

__all__ = ["Probe"]

TOP = (1, 8, 32)

When = Literal["start", "middle", "end"]

RIDGE = 1e-4
"""Added to the least squares, times the mean square of a state: layer norms leave some directions without any."""


class _Watched(nn.Module):
    """Applies a head, and keeps what went in and what came out, as a leaf of a separate graph."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.states = self.outputs = torch.zeros(0)

    def forward(self, states: Tensor) -> Tensor:
        self.states = states.float()
        self.outputs = self.head(states).float().requires_grad_()
        return self.outputs.detach()


@dataclass
class _Side:
    """The queries or documents of the probe batch: states and outputs of the head, embeddings, tokens per text."""

    states: Tensor
    outputs: Tensor
    rows: Tensor
    counts: Tensor


@dataclass
class Probe:
    """Probes a trial.

    Attributes:
        config: The training section of the configuration.
        head: The head.
        trained: The module that is trained, which holds the head.
        embed: Computes token embeddings.
        data: The training data.
        widths: Widths of the token embeddings that the loss is averaged over; empty for the full width only.
        steps: Number of steps of the training.
    """

    config: TrainConfig
    head: nn.Module
    trained: nn.Module
    embed: BatchEmbedder
    data: TrainingData
    widths: Sequence[int]
    steps: int
    _before: dict[int, np.ndarray] = field(default_factory=dict)
    _waiting: dict[int, ProbePoint] = field(default_factory=dict)

    def __call__(self, step: int) -> list[TrainLine]:
        """Measure what is due after a step, 0 for the start; return the lines of the points that are complete."""
        whens: dict[int, When] = {self.steps // 2: "middle", 0: "start", self.steps: "end"}
        # The start and the middle need the winners of the next step, the end those of the step before.
        wanted = {0, 1, self.steps // 2, self.steps // 2 + 1, self.steps - 1, self.steps}
        if step not in wanted or not self.steps:
            return []
        self.trained.eval()
        try:
            queries, documents = self._embedded()
            winners = self._winners(queries, documents)
            if step in whens:
                self._waiting[step] = self._point(whens[step], queries, documents, winners)
        finally:
            self.trained.train()
        done = []
        changed = None if step - 1 not in self._before else float((winners != self._before[step - 1]).mean())
        if step - 1 in self._waiting and changed is not None:
            done.append(TrainLine(step=step - 1, probe=self._waiting.pop(step - 1).replace(changed=changed)))
        if step == self.steps:
            done += [TrainLine(step=at, probe=one.replace(changed=changed)) for at, one in self._waiting.items()]
            self._waiting.clear()
        self._before = {step: winners}
        return done

    def _embedded(self) -> tuple[_Side, _Side]:
        texts = texts_of(self.data, self.data.probed)
        device = next(self.head.parameters()).device
        sides = []
        for indices, is_query in ((texts[:, 0], True), (texts[:, 1:].ravel(), False)):
            watched = _Watched(self.head)
            with torch.no_grad(), autocast(device, self.config.precision):
                _, counts = self.embed(watched, indices, is_query=is_query)
            rows = functional.normalize(watched.outputs, dim=-1)
            sides.append(_Side(watched.states, watched.outputs, rows, counts))
        return sides[0], sides[1]

    def _winners(self, queries: _Side, documents: _Side) -> np.ndarray:
        """Return, for every query token, the place of its winner among the tokens of its relevant document."""
        ways = len(documents.counts) // len(queries.counts)
        found = []
        for tokens, rows in zip(_split(queries), _split(documents)[::ways], strict=True):
            if len(rows):
                found.append((tokens @ rows.T).argmax(dim=1).cpu().numpy())
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def _point(self, when: When, queries: _Side, documents: _Side, winners: np.ndarray) -> ProbePoint:
        ways = len(documents.counts) // len(queries.counts)
        wins, first = [], 0
        for length, rows in zip(queries.counts.tolist(), _split(documents)[::ways], strict=True):
            if len(rows):
                wins.append(np.bincount(winners[first : first + length], minlength=len(rows)))
                first += length
        counts = np.concatenate(wins) if wins else np.zeros(1)
        gradient = self._gradient(queries, documents)
        states, outputs = (
            torch.cat([getattr(side, name).detach() for side in (queries, documents)]).double().cpu()
            for name in ("states", "outputs")
        )
        matrix = _map_of(self.head, states, outputs)
        moments = {"R": outputs.T @ outputs, "G": gradient.T @ gradient, "W": matrix @ matrix.T}
        pairs = (("R", "W"), ("R", "G"), ("W", "G"))
        found = {f"{a}-{b}": _cosine(moments[a], moments[b]) for a, b in pairs}
        pushed = torch.linalg.svdvals(gradient.T @ states).numpy()
        energy = np.square(pushed)
        return ProbePoint(
            when=when,
            winners=float((counts > 0).mean()),
            winners_in_batch=_winning_share(queries, documents),
            gini=gini(counts),
            changed=None,
            gradient_rank=effective_rank(pushed),
            gradient_energy={str(k): float(energy[:k].sum() / energy.sum()) for k in TOP} if energy.any() else {},
            map_rank=effective_rank(torch.linalg.svdvals(matrix).numpy()) or 0.0,
            alignment={name: value for name, value in found.items() if value is not None},
        )

    def _gradient(self, queries: _Side, documents: _Side) -> Tensor:
        """Return the gradient of the loss with respect to the head's outputs, (tokens, out_features) float64."""
        batch = self.data.probed
        everyone = texts_of(self.data, batch) if self.config.loss.scope == "batch" else None
        with torch.enable_grad():
            sides = (queries.rows, queries.counts), (documents.rows, documents.counts)
            loss = batch_loss(self.config, self.data, self.widths, batch, *sides, everyone)
        parts = torch.autograd.grad(loss, (queries.outputs, documents.outputs))
        return torch.cat(parts).double().cpu()


def _split(side: _Side) -> list[Tensor]:
    return list(torch.split(side.rows.detach(), side.counts.tolist()))


def _winning_share(queries: _Side, documents: _Side) -> float:
    """Return the share of document tokens that win some query token, over all pairs of the batch."""
    tokens = queries.rows.detach()
    rows, mask = pad(documents.rows.detach(), documents.counts)
    won = torch.zeros_like(mask)
    for number, document in enumerate(rows):
        if mask[number].any():
            similarities = (tokens @ document.T).masked_fill(~mask[number], -torch.inf)
            won[number, similarities.argmax(dim=1)] = True
    return float(won.sum() / mask.sum())


def _map_of(head: nn.Module, states: Tensor, outputs: Tensor) -> Tensor:
    """Return the head's map (out_features, in_features): exact if it is linear, otherwise the least-squares fit."""
    if folds(head):
        return fold(head).weight.detach().double().cpu()
    gram = states.T @ states
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    solution: Tensor = torch.linalg.solve(gram, states.T @ outputs)
    return solution.T


def gini(counts: np.ndarray) -> float:
    """Return the Gini coefficient of numbers of at least 0: 0 if all are equal, towards 1 if one has everything."""
    ordered, n = np.sort(counts), len(counts)
    total = ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total else 0.0


def _cosine(one: Tensor, other: Tensor) -> float | None:
    norms = torch.linalg.norm(one) * torch.linalg.norm(other)
    return float((one * other).sum() / norms) if norms > 0 else None
