"""A mix of several sources of training examples: how they are joined, and how batches are drawn from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiment.config.train_data_section import TrainDataConfig
from experiment.disk.files import sha256_json
from experiment.seeds import numpy_generator
from projheads.errors import ProjheadsError
from train.data.tuples import Tuples, joined
from train.failures import TrainingFailedError

__all__ = ["Mix", "make_mix", "mixed"]

NONE = -1
"""Marks a document that a shorter tuple does not have."""


@dataclass(frozen=True)
class Mix:
    """The sources of the examples.

    Attributes:
        names: Their names.
        rows: For each source the rows of ``TrainingData.examples`` that are its own, (n,) int64.
        shares: The probability that a step draws from each; they sum to 1.
    """

    names: tuple[str, ...]
    rows: tuple[np.ndarray, ...]
    shares: tuple[float, ...]

    def sources(self, steps: int, seed: int) -> np.ndarray:
        """Draw the source of each step, (steps,) int64; it depends only on the seed."""
        drawn: np.ndarray = numpy_generator(seed, "mix").choice(len(self.names), size=steps, p=self.shares)
        return drawn

    def order(self, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
        """Yield the batches, (batch_size,) rows of one source each; every source has its own epochs."""
        for name, rows in zip(self.names, self.rows, strict=True):
            if len(rows) < batch_size:
                raise TrainingFailedError(
                    f"train.data: {name} has {len(rows)} training examples, too few for {batch_size}"
                )
        drawn = [0] * len(self.names)
        permutations: list[np.ndarray] = [np.zeros(0, np.int64)] * len(self.names)
        for source in self.sources(steps, seed).tolist():
            epoch, position = divmod(drawn[source], len(self.rows[source]) // batch_size)
            if position == 0:
                generator = numpy_generator(seed, "data order", self.names[source], epoch)
                permutations[source] = generator.permutation(self.rows[source])
            yield permutations[source][position * batch_size : (position + 1) * batch_size]
            drawn[source] += 1

    def describe(self) -> list[str]:
        """Return a line per source: its examples and its share of the steps."""
        return [
            f"mix: {name}: {len(rows)} examples, {share:.1%} of the steps"
            for name, rows, share in zip(self.names, self.rows, self.shares, strict=True)
        ]


def make_mix(data: TrainDataConfig, part_of: np.ndarray, step: int) -> Mix:
    """Divide the examples among their sources.

    Args:
        data: The section ``train.data``.
        part_of: (n,) the place of each example's source.
        step: Examples of one step.

    Raises:
        ProjheadsError: If a source has too few examples for one step.
    """
    names = tuple(map(str, data.mix))
    rows = tuple(np.flatnonzero(part_of == place) for place in range(len(names)))
    for name, own in zip(names, rows, strict=True):
        if len(own) < step:
            raise ProjheadsError(
                f"train.data: {name} leaves {len(own)} training examples, too few for one step of {step}; lower "
                "train.batch_size or train.validation_pairs, or take the source out of the mix"
            )
    given = [part.weight for part in data.mix]
    weights = [len(own) ** (1 / data.temperature) if one is None else one for own, one in zip(rows, given, strict=True)]
    return Mix(names, rows, tuple(weight / sum(weights) for weight in weights))


def mixed(parts: Sequence[Tuples], chosen: np.ndarray) -> tuple[Tuples, np.ndarray]:
    """Keep some examples of several sources and join them.

    Args:
        parts: The sources; a single one is only reduced to ``chosen``.
        chosen: Sorted rows to keep, counted through all sources.

    Returns:
        The examples, with the rows of shorter tuples filled up with -1, and the place of each one's source.
    """
    kept, part_of, first = [], [], 0
    for place, part in enumerate(parts):
        own = chosen[(chosen >= first) & (chosen < first + len(part.rows))] - first
        kept.append(part.take(own))
        part_of.append(np.full(len(own), place))
        first += len(part.rows)
    joint = kept[0]
    for other in kept[1:]:
        joint = _join(joint, other)
    return joint, np.concatenate(part_of)


def _join(first: Tuples, other: Tuples) -> Tuples:
    """Append one source to another; its texts come after those of the first."""
    offsets = np.array([len(first.queries), len(first.documents)])
    rows = other.rows + np.array([offsets[0], *[offsets[1]] * (other.rows.shape[1] - 1)])
    rows = np.where(other.rows == NONE, NONE, rows)
    width = max(first.rows.shape[1], rows.shape[1])
    scores = None
    if first.scores is not None and other.scores is not None:
        scores = np.concatenate([_widened(one, width - 1, np.nan) for one in (first.scores, other.scores)])
    return replace(
        first,
        queries=joined(first.queries, other.queries),
        documents=joined(first.documents, other.documents),
        rows=np.concatenate([_widened(one, width, NONE) for one in (first.rows, rows)]),
        scores=scores,
        judged=np.concatenate([first.judged, other.judged + offsets]),
        hash=sha256_json([first.hash, other.hash]),
        excluded=np.concatenate([first.excluded, other.excluded + offsets]),
    )


def _widened(rows: np.ndarray, width: int, filling: float) -> np.ndarray:
    """Fill rows up to a width."""
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=filling)
