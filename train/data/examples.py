"""What is trained on: read once for an experiment, a part held out, the same for every trial."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiment.collections import open_collection
from experiment.config import ExperimentConfig
from experiment.config.train_data_section import TrainDataConfig
from experiment.disk.files import sha256_json
from experiment.seeds import numpy_generator
from projheads.errors import ProjheadsError
from train.data.tuples import Tuples, pairs_of
from train.data.tuples_file import read_tuples
from train.data.tuples_hub import read_hub_tuples

__all__ = ["TrainingData", "load_training_data", "order_of"]


@dataclass(frozen=True)
class TrainingData:
    """The texts of an experiment's training, and which belong together.

    Attributes:
        queries: Query texts.
        documents: Document texts.
        examples: (n, 1 + n_ways) indices of a query and of its documents. The first document is relevant; there is no
            other one in pairs.
        teacher_scores: (n, n_ways) float32, the teacher's score of each document of ``examples``; None without them.
        validation: (m, 2) indices of the held-out queries and their relevant documents; no such document is relevant
            in ``examples``.
        relevant: The indices of the documents that are relevant for a query, by the query's index, to keep a second
            one from counting as a negative.
        hash: Content hash of all of this.
        notes: Counts of what is odd in the collection.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    examples: np.ndarray
    teacher_scores: np.ndarray | None
    validation: np.ndarray
    relevant: Mapping[int, Collection[int]]
    hash: str
    notes: dict[str, int]

    def false_negatives(self, batch: np.ndarray) -> np.ndarray:
        """Mark the in-batch documents that are no negatives.

        Args:
            batch: (B, 1 + n_ways) rows of ``examples``, or of ``validation``.

        Returns:
            (B, B * n_ways) bool: True where the column's document is relevant for the row's query, but for the row's
            own first document. Document k of row i is column i * n_ways + k.
        """
        queries, documents = batch[:, 0], batch[:, 1:]
        columns = defaultdict(list)
        for column, document in enumerate(documents.ravel().tolist()):
            columns[document].append(column)
        marks = np.zeros((len(batch), documents.size), dtype=bool)
        for row, query in enumerate(queries.tolist()):
            for document in self.relevant.get(query, ()):
                marks[row, columns.get(document, [])] = True
        marks[np.arange(len(batch)), np.arange(len(batch)) * documents.shape[1]] = False
        return marks

    def describe(self, source: TrainDataConfig) -> list[str]:
        """Tell in one line how much there is to train on, and in another what is odd about it."""
        n_ways = self.examples.shape[1] - 1
        kind = "pairs" if n_ways == 1 else f"tuples of {n_ways} documents"
        taught = "" if self.teacher_scores is None else " with teacher scores"
        lines = [
            f"{source}: {len(self.examples)} training {kind}{taught}, of {len(self.queries)} queries and "
            f"{len(self.documents)} documents, {len(self.validation)} pairs held out"
        ]
        odd = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.notes.items() if count)
        return [*lines, f"{source} holds {odd}"] if odd else lines


def load_training_data(config: ExperimentConfig) -> TrainingData:
    """Read the training examples and hold out whole documents for validation.

    Which examples are taken (``max_pairs``) and held out depends on the data alone, so that it is the same for every
    variant and seed. A tuple is held out with its first document: no held-out document is relevant in training, but it
    may stand there as a negative of another query.

    Raises:
        ProjheadsError: If the data can not be read, too few examples remain for one batch, or the loss needs teacher
            scores that are not there.
    """
    settings = config.train
    tuples, notes = _read(settings.data, config.cache)
    if settings.loss.needs_teacher and tuples.scores is None:
        raise ProjheadsError(
            f"train.loss: {settings.loss.name} needs teacher scores, and {settings.data.tuples} has none; "
            "add them with `python -m train teach`, or use `loss: contrastive`"
        )
    generator = numpy_generator(0, "training pairs")
    chosen = np.arange(len(tuples.rows))
    if settings.max_pairs is not None and len(chosen) > settings.max_pairs:
        chosen = np.sort(generator.permutation(len(chosen))[: settings.max_pairs])
    tuples = tuples.take(chosen)
    pairs = tuples.rows[:, :2]
    held_out = _held_out(pairs, settings.validation_pairs, generator)
    if int((~held_out).sum()) < settings.batch_size:
        raise ProjheadsError(
            f"train.data: {settings.data} leaves {int((~held_out).sum())} training examples, fewer than "
            f"train.batch_size={settings.batch_size}; lower train.batch_size or train.validation_pairs"
        )
    return TrainingData(
        queries=tuples.queries,
        documents=tuples.documents,
        examples=tuples.rows[~held_out],
        teacher_scores=None if tuples.scores is None else tuples.scores[~held_out],
        validation=pairs[held_out][: settings.validation_pairs],
        relevant=_relevant(np.concatenate([pairs, tuples.judged])),
        hash=sha256_json([tuples.hash, settings.max_pairs, settings.validation_pairs]),
        notes=notes,
    )


def _read(data: TrainDataConfig, cache: Path) -> tuple[Tuples, dict[str, int]]:
    """Read the examples, and what is odd about the collection that they are of."""
    collection = open_collection(data.source, split=data.split, cache=cache) if data.source else None
    notes = dict(collection.notes) if collection else {}
    if data.hub_tuples is not None:
        return read_hub_tuples(*data.hub_tuples, split=data.split, n_ways=data.n_ways), notes
    if data.tuples is not None:
        path = Path(data.tuples).expanduser()
        return read_tuples(path, n_ways=data.n_ways, collection=collection), notes
    if collection is None:
        raise ProjheadsError("train.data: say where the examples come from: `source` or `tuples`")
    return pairs_of(collection), notes


def order_of(data: TrainingData, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the batches of a trial: (batch_size,) int64 rows of ``data.examples``, ``steps`` times.

    The order depends on the seed alone, so that all variants of a seed see the same batches. Every epoch is a new
    permutation of the examples; what is left over at its end, less than a batch, is passed over.
    """
    per_epoch = len(data.examples) // batch_size
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            permutation = numpy_generator(seed, "data order", epoch).permutation(len(data.examples))
        yield permutation[position * batch_size : (position + 1) * batch_size]


def _relevant(pairs: np.ndarray) -> Mapping[int, list[int]]:
    """List the documents of each query of (n, 2) pairs."""
    relevant: defaultdict[int, list[int]] = defaultdict(list)
    for query, document in pairs.tolist():
        relevant[query].append(document)
    return relevant


def _held_out(pairs: np.ndarray, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """Mark pairs (n,) for validation: all pairs of randomly drawn documents until ``wanted`` are marked."""
    held_out = np.zeros(len(pairs), dtype=bool)
    if not wanted or not len(pairs):
        return held_out
    order = generator.permutation(int(pairs[:, 1].max()) + 1)
    counts = np.bincount(pairs[:, 1], minlength=len(order))[order]
    enough = int(np.searchsorted(np.cumsum(counts), min(wanted, len(pairs) // 5))) + 1
    return np.isin(pairs[:, 1], order[:enough])
