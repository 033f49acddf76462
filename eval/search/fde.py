"""Search with fixed-dimensional encodings: one vector a text, whose inner products approximate MaxSim.

MUVERA (Dhulipala et al., arXiv 2405.19504) divides the space by the signs of ``k_sim`` random hyperplanes into 2^k_sim
parts. For each part, a query's encoding has the sum of its token vectors in it, a document's their mean, projected to
``projection`` numbers by a random matrix of signs. A part without a token vector of the document takes the vector
nearest to it by the number of different signs. All of that is repeated ``reps`` times. With ``final``, a random
projection, the count sketch of the authors' program (google/graph-mining), reduces the result to that many numbers.

Random numbers are drawn in the order of fastembed's ``Muvera``, with its default seed, so that encodings are the same
numbers. Every encoding is compared with every other: the search is exact, and only the encodings are approximate.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.search.ranking import NOTHING, Problem, Ranking
from experiment.encoding.store import TokenStore, unnamed_file

__all__ = ["FixedEncoder", "fde_rankings"]

SEED = 42

WORK = 2**22
"""Numbers, about, that encoding a block of texts takes at most, unless it is one text."""

QUERIES = 1024
"""Queries that are compared with a block of documents at a time."""


@dataclass(frozen=True)
class FixedEncoder:
    """Encodes texts of token vectors as one vector each.

    Attributes:
        planes: (width, reps * k_sim) float64, the hyperplanes' normals.
        projections: (width, reps * projection) float32; None for token vectors as they are.
        reps: Number of repetitions.
        parts: Number of parts of the space, 2^k_sim.
        numbers: Numbers of a part.
        sketch: Where each number of an encoding goes, int64, and its sign; None without a final projection.
        size: Numbers of an encoding.
    """

    planes: Tensor
    projections: Tensor | None
    reps: int
    parts: int
    numbers: int
    sketch: tuple[Tensor, Tensor] | None
    size: int

    @classmethod
    def draw(cls, width: int, options: Mapping[str, int]) -> "FixedEncoder":
        """Draw an encoder for token vectors of ``width`` numbers; the options are those of ``fde`` in ``SEARCHES``."""
        k_sim, reps, numbers, final = (options[name] for name in ("k_sim", "reps", "projection", "final"))
        generator = np.random.default_rng(SEED)
        planes = np.concatenate([generator.normal(size=(width, k_sim)) for _ in range(reps)], axis=1)
        signs = generator.choice([-1, 1], size=(reps, width, numbers))
        projections = None
        if numbers < width:
            scaled = torch.from_numpy(signs / np.sqrt(numbers)).float()
            projections = scaled.transpose(0, 1).reshape(width, reps * numbers)
        numbers = min(numbers, width)
        size, sketch = reps * 2**k_sim * numbers, None
        if final:
            places, flips = generator.integers(final, size=size), generator.choice([-1.0, 1.0], size=size)
            sketch = torch.from_numpy(places), torch.from_numpy(flips).float()
        return cls(torch.from_numpy(planes), projections, reps, 2**k_sim, numbers, sketch, final or size)

    def __call__(self, rows: np.ndarray, lengths: np.ndarray, *, documents: bool) -> Tensor:
        """Encode texts.

        Args:
            rows: (n_tokens, width), the token vectors of all texts, one after the other.
            lengths: (n_texts,) int64, token vectors of each, at least 1.
            documents: Whether they are documents; otherwise queries.

        Returns:
            (n_texts, size) float32.
        """
        vectors = torch.tensor(rows, dtype=torch.float32)
        signs = (vectors.double() @ self.planes > 0).view(len(vectors), self.reps, -1).long()
        part = (signs << torch.arange(signs.shape[2])).sum(dim=2)
        text = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
        place = (text[:, None] * self.reps + torch.arange(self.reps)) * self.parts + part
        if self.projections is None:
            values = vectors[:, None].expand(-1, self.reps, -1)
        else:
            values = (vectors @ self.projections).view(len(vectors), self.reps, self.numbers)
        cells = len(lengths) * self.reps * self.parts
        encoded = torch.zeros(cells, self.numbers).index_add_(0, place.flatten(), values.reshape(-1, self.numbers))
        if documents:
            counts = torch.bincount(place.flatten(), minlength=cells)
            encoded /= counts.clamp(min=1)[:, None]
            empty, token = self._fillers(place, counts)
            encoded[empty] = values[token, empty // self.parts % self.reps]
        encoded = encoded.view(len(lengths), -1)
        if self.sketch is not None:
            places, flips = self.sketch
            encoded = torch.zeros(len(lengths), self.size).index_add_(1, places, encoded * flips)
        return encoded

    def _fillers(self, place: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the empty cells, and for each the first token vector of the nearest part that is not empty."""
        first = torch.full_like(counts, len(place))
        tokens = torch.arange(len(place))[:, None].expand_as(place).flatten()
        first = first.scatter_reduce(0, place.flatten(), tokens, "amin").view(-1, self.parts)
        part = torch.arange(self.parts)
        different = torch.zeros(self.parts, self.parts, dtype=torch.int64)
        for bit in range(self.parts.bit_length() - 1):
            different += ((part[:, None] ^ part) >> bit) & 1
        # Of equally near parts, the first.
        order = different * self.parts + part
        never = self.parts * self.parts * (counts.view(-1, 1, self.parts) == 0)
        nearest = (order + never).argmin(dim=2)
        empty = torch.nonzero(counts == 0).flatten()
        return empty, first.gather(1, nearest).flatten()[empty]


def fde_rankings(
    problem: Problem, options: Mapping[str, int], most: int, cache: Path, progress: Callable[[float], None]
) -> tuple[list[Ranking], int]:
    """Rank documents by the inner products of fixed-dimensional encodings.

    Documents are encoded block by block and only the best of each query are kept, so memory does not grow with the
    corpus.

    Args:
        problem: Queries, corpus, and what is never found.
        options: Those of ``fde`` in ``SEARCHES``.
        most: Documents wanted for each query.
        cache: Folder of a temporary file with the queries' encodings.
        progress: Called with the share of the corpus that was searched since the last call.

    Returns:
        One ranking per query, and the numbers of an encoding.
    """
    encoder = FixedEncoder.draw(problem.documents.width, options)
    asked = np.flatnonzero(problem.queries.lengths > 0)
    rankings = [NOTHING] * len(problem.queries)
    if not len(asked):
        return rankings, encoder.size
    best = np.full((len(asked), most), -np.inf, np.float32)
    names = np.full((len(asked), most), -1, np.int64)
    with unnamed_file(cache) as file:
        for _, encoded in _encoded(encoder, problem.queries, documents=False):
            file.write(encoded.tobytes())
        file.flush()
        queries = np.memmap(file, np.float32, "r", shape=(len(asked), encoder.size))
        for documents, encoded in _encoded(encoder, problem.documents, documents=True):
            for first in range(0, len(asked), QUERIES):
                rows = slice(first, first + QUERIES)
                scores = (torch.tensor(queries[rows]) @ torch.from_numpy(encoded).T).numpy()
                for hidden in problem.hidden[asked[rows]].T:
                    scores[documents == hidden[:, None]] = -np.inf
                found = np.concatenate([best[rows], scores], axis=1)
                kept = np.argpartition(-found, most - 1, axis=1)[:, :most]
                both = np.concatenate([names[rows], np.broadcast_to(documents, scores.shape)], axis=1)
                best[rows], names[rows] = (np.take_along_axis(one, kept, axis=1) for one in (found, both))
            progress(len(documents) / len(problem.documents))
    for query, scores, documents in zip(asked, best, names, strict=True):
        inside = scores > -np.inf
        scores, documents = scores[inside], documents[inside]
        order = np.lexsort((-problem.priority[documents], -scores))
        rankings[query] = Ranking(documents[order], scores[order])
    return rankings, encoder.size


def _encoded(encoder: FixedEncoder, store: TokenStore, *, documents: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the texts that have a token vector, in blocks, each with its encodings."""
    texts = np.flatnonzero(store.lengths > 0)
    fixed = encoder.reps * encoder.parts * max(encoder.numbers, encoder.parts)
    work = np.cumsum(fixed + store.lengths[texts] * (encoder.reps * encoder.numbers + 3 * store.width))
    first, done = 0, 0
    while first < len(texts):
        last = max(first + 1, int(np.searchsorted(work, done + WORK, side="right")))
        chosen, done = texts[first:last], int(work[last - 1])
        # Texts between them have no token vectors.
        rows = store.vectors[store.offsets[chosen[0]] : store.offsets[chosen[-1] + 1]]
        yield chosen, encoder(rows, store.lengths[chosen], documents=documents).numpy()
        first = last
