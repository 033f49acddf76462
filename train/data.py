"""What is trained on: read once for an experiment, a part held out, the same for every trial."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from experiment.collections import open_collection, training_pairs
from experiment.config import DatasetRef, ExperimentConfig
from experiment.folder import sha256_json
from experiment.seeds import numpy_generator
from projheads.errors import ProjheadsError

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

    queries: list[str]
    documents: list[str]
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

    def describe(self, source: DatasetRef) -> list[str]:
        """Tell in one line how much there is to train on, and in another what is odd about it."""
        lines = [
            f"{source.source} ({source.split}): {len(self.examples)} training pairs of {len(self.queries)} queries and "
            f"{len(self.documents)} documents, {len(self.validation)} pairs held out"
        ]
        odd = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.notes.items() if count)
        return [*lines, f"{source.source} ({source.split}) holds {odd}"] if odd else lines


def load_training_data(config: ExperimentConfig) -> TrainingData:
    """Read the training pairs and hold out whole documents for validation.

    Which pairs are taken (``max_pairs``) and held out depends on the data alone, so that it is the same for every
    variant and seed.

    Raises:
        ProjheadsError: If too few pairs remain for one batch.
    """
    settings = config.train
    collection = open_collection(settings.data.source, split=settings.data.split, cache=config.cache)
    named = training_pairs(collection)
    generator = numpy_generator(0, "training pairs")
    if settings.max_pairs is not None and len(named) > settings.max_pairs:
        chosen = np.sort(generator.permutation(len(named))[: settings.max_pairs])
        named = [named[index] for index in chosen]
    query_ids = list(dict.fromkeys(query for query, _ in named))
    document_ids = list(dict.fromkeys(document for _, document in named))
    query_index = {name: index for index, name in enumerate(query_ids)}
    document_index = {name: index for index, name in enumerate(document_ids)}
    pairs = np.array([(query_index[query], document_index[document]) for query, document in named], dtype=np.int64)
    pairs = pairs.reshape(-1, 2)
    held_out = _held_out(pairs, settings.validation_pairs, generator)
    training, validation = pairs[~held_out], pairs[held_out][: settings.validation_pairs]
    if len(training) < settings.batch_size:
        raise ProjheadsError(
            f"train.data: {settings.data.source} ({settings.data.split}) leaves {len(training)} training pairs, fewer "
            f"than train.batch_size={settings.batch_size}; lower train.batch_size or train.validation_pairs"
        )
    return TrainingData(
        queries=[collection.queries[name] for name in query_ids],
        documents=[collection.corpus[name].passage for name in document_ids],
        examples=training,
        teacher_scores=None,
        validation=validation,
        relevant=_relevant(pairs),
        hash=sha256_json([collection.hash, settings.max_pairs, settings.validation_pairs]),
        notes=dict(collection.notes),
    )


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


def _relevant(pairs: np.ndarray) -> dict[int, list[int]]:
    """List the documents of each query of (n, 2) pairs."""
    relevant = defaultdict(list)
    for query, document in pairs.tolist():
        relevant[query].append(document)
    return dict(relevant)


def _held_out(pairs: np.ndarray, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """Mark pairs (n,) for validation: all pairs of randomly drawn documents until ``wanted`` are marked."""
    held_out = np.zeros(len(pairs), dtype=bool)
    if not wanted or not len(pairs):
        return held_out
    order = generator.permutation(int(pairs[:, 1].max()) + 1)
    counts = np.bincount(pairs[:, 1], minlength=len(order))[order]
    enough = int(np.searchsorted(np.cumsum(counts), min(wanted, len(pairs) // 5))) + 1
    return np.isin(pairs[:, 1], order[:enough])
