"""Token states of training texts that are not stored: computed for a few steps, shared by trials, and forgotten.

The texts that are read again and again stay: those of the validation and of the probe. All states are encoded in
canonical batches, so a text has the same ones in whatever step, trial or store it is encoded.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from experiment.encoding.tokens import TokenStore
from train.data.examples import TrainingData

__all__ = ["PassingStates", "StepsAhead", "kept_texts", "texts_ahead"]

TEXTS_AHEAD = {"cpu": 512}
"""Texts whose states are computed at once, by device; more of them fill batches better, and take more memory."""

TEXTS_AHEAD_ELSEWHERE = 4096

Encode = Callable[[Sequence[str]], TokenStore]


@dataclass
class PassingStates:
    """Token states of queries or documents, of which some stay and the others come and go.

    Attributes:
        texts: All texts.
        encode: Computes the states of texts in memory.
        lengths: Token states of each text, (n_texts,) int64; 0 before a text is first encoded.
    """

    texts: Sequence[str]
    encode: Encode
    lengths: np.ndarray
    _kept: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    _passing: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def keeping(cls, texts: Sequence[str], encode: Encode, kept: np.ndarray, store: TokenStore) -> Self:
        """Make the states of texts, and keep those of some.

        Args:
            texts: All texts.
            encode: Computes the states of texts in memory.
            kept: (n_kept,) indices of the texts that stay.
            store: Their states.
        """
        states = cls(texts, encode, np.zeros(len(texts), np.int64))
        states.lengths[kept] = store.lengths
        states._kept = {int(index): store[place] for place, index in enumerate(kept)}
        return states

    def __getitem__(self, text: int) -> np.ndarray:
        """Return the states (L, in_features) of a text.

        Raises:
            KeyError: If they are not there.
        """
        return self._kept[text] if text in self._kept else self._passing[text]

    def pass_on(self, indices: np.ndarray) -> None:
        """Forget the states that do not stay, and compute those of other texts."""
        self._passing = {}
        wanted = [index for index in np.unique(indices).tolist() if index not in self._kept]
        store = self.encode([self.texts[index] for index in wanted])
        self.lengths[wanted] = store.lengths
        self._passing = {index: store[place] for place, index in enumerate(wanted)}


@dataclass
class StepsAhead:
    """Computes the states of the steps of one stage, some steps ahead.

    Attributes:
        queries: The states of the queries.
        documents: The states of the documents.
        data: The training data.
        order: The examples of each step.
        device: The kind of device that computes them.
        reached: The last step whose states are there.
    """

    queries: PassingStates
    documents: PassingStates
    data: TrainingData
    order: Iterator[np.ndarray]
    device: str
    reached: int = 0

    def reach(self, step: int) -> None:
        """Compute the states of a step and some that follow, unless they are there; earlier steps are over."""
        if step <= self.reached:
            return
        while self.reached < step - 1:
            next(self.order)
            self.reached += 1
        queries: set[int] = set()
        documents: set[int] = set()
        most = texts_ahead(self.device)
        for examples in self.order:
            rows = self.data.examples[examples]
            queries.update(rows[:, 0].tolist())
            documents.update(rows[:, 1:][rows[:, 1:] >= 0].tolist())
            self.reached += 1
            if len(queries) + len(documents) >= most:
                break
        for states, indices in ((self.queries, queries), (self.documents, documents)):
            states.pass_on(np.fromiter(indices, np.int64))


def texts_ahead(device: str) -> int:
    """Return the number of texts whose states are computed at once, on a kind of device."""
    return TEXTS_AHEAD.get(device, TEXTS_AHEAD_ELSEWHERE)


def kept_texts(data: TrainingData, *, probed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices of the queries and of the documents that are read again and again.

    Args:
        data: The training data.
        probed: Whether gradients are probed.
    """
    examples = data.examples[data.probed] if probed else data.examples[:0]
    queries = [data.validation[:, 0], *data.development_queries, examples[:, 0]]
    documents = [data.validation[:, 1], *data.development_documents, examples[:, 1:].ravel()]
    one, other = np.unique(np.concatenate(queries)), np.unique(np.concatenate(documents))
    return one[one >= 0], other[other >= 0]
