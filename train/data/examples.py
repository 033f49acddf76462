"""The training data of an experiment: read once, with a held-out part, the same for every trial."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from experiment.collections import open_collection
from experiment.collections.same_ids import EXCLUDED, excluded_ids
from experiment.collections.same_texts import repeated_texts
from experiment.config import ExperimentConfig
from experiment.config.train_data_section import DataPart, TrainDataConfig
from experiment.disk.files import sha256_json
from experiment.losses import Loss
from experiment.seeds import numpy_generator
from projheads.errors import ProjheadsError
from train.data.development import Development, load_development
from train.data.mix import Mix, make_mix, mixed
from train.data.tuples import Tuples, draw_examples, example_generator, joined, pairs_of
from train.data.tuples_file import read_tuples
from train.data.tuples_hub import read_hub_tuples

__all__ = ["TrainingData", "load_training_data", "order_of"]

CORRUPTION_DRAWS = 100

PROBED_EXAMPLES = 32
"""At most so many examples are in the batch that the probe reads."""


@dataclass(frozen=True)
class TrainingData:
    """The texts of an experiment's training, and which queries and documents belong together.

    Attributes:
        queries: Query texts.
        documents: Document texts.
        examples: (n, 1 + n_ways) indices of a query and its documents, the first of which is relevant; n_ways is 1 for
            pairs. In a mix, the rows of a source with fewer documents end with -1.
        teacher_scores: (n, n_ways) float32, the teacher's score of each document of ``examples``; None without them.
        validation: (m, 2) indices of held-out queries and their relevant documents; none of these documents is
            relevant in ``examples``.
        relevant: The indices of each query's relevant documents, by the query's index, so that a second relevant
            document does not count as a negative. Identical texts, under whatever id, are relevant alike.
        hash: Content hash of the data.
        notes: Counts of irregularities in the collection.
        excluded: The indices of the documents that a query never finds, by the query's index; see
            ``experiment.collections.same_ids``.
        development: The development queries of each collection; empty without them. Their texts are the last ones of
            ``queries`` and ``documents``, in this order.
        mix: The sources of the examples; None for a single one.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    examples: np.ndarray
    teacher_scores: np.ndarray | None
    validation: np.ndarray
    relevant: Mapping[int, Collection[int]]
    hash: str
    notes: dict[str, int]
    excluded: Mapping[int, Collection[int]] = field(default_factory=dict)
    development: tuple[Development, ...] = ()
    mix: Mix | None = None

    @property
    def development_queries(self) -> list[np.ndarray]:
        """The indices of the development queries of each collection."""
        return _last(self.queries, [one.queries for one in self.development])

    @property
    def development_documents(self) -> list[np.ndarray]:
        """The indices of the documents that the development queries of each collection are ranked over."""
        return _last(self.documents, [one.documents for one in self.development])

    @property
    def probed(self) -> np.ndarray:
        """Rows of ``examples`` for the probe, evenly spaced over those that are as long as the first."""
        alike = np.flatnonzero(((self.examples < 0) == (self.examples[0] < 0)).all(axis=1))
        size = min(PROBED_EXAMPLES, len(alike))
        return np.asarray(alike[np.arange(size) * len(alike) // size])

    @property
    def kind(self) -> str:
        """What the examples are: pairs, tuples of a number of documents, or in a mix either of them."""
        n_ways = self.examples.shape[1] - 1
        if self.mix is not None:
            return "examples"
        return "pairs" if n_ways == 1 else f"tuples of {n_ways} documents"

    @property
    def choice(self) -> str:
        """What a sweep chooses by: the development queries if there are any, otherwise the held-out pairs."""
        if not self.development:
            return f"{len(self.validation)} held-out pairs"
        return "; ".join(one.about for one in self.development)

    def false_negatives(self, batch: np.ndarray) -> np.ndarray:
        """Mark the in-batch documents that are not negatives.

        Args:
            batch: (B, 1 + n_ways) rows of ``examples``, or of ``validation``.

        Returns:
            (B, B * n_ways) bool: True if the column's document is relevant to the row's query or excluded for it,
            except for the row's own first document. Document k of row i is column i * n_ways + k.
        """
        queries, documents = batch[:, 0], batch[:, 1:]
        columns: defaultdict[int, list[int]] = defaultdict(list)
        for column, document in enumerate(documents.ravel().tolist()):
            columns[document].append(column)
        marks = np.zeros((len(batch), documents.size), dtype=bool)
        for row, query in enumerate(queries.tolist()):
            for document in (*self.relevant.get(query, ()), *self.excluded.get(query, ())):
                if document in columns:  # most of a query's relevant documents are not in the batch
                    marks[row, columns[document]] = True
        marks[np.arange(len(batch)), np.arange(len(batch)) * documents.shape[1]] = False
        return marks

    def describe(self, source: TrainDataConfig) -> list[str]:
        """Return a line on the size of the data and, if there are any, one on its irregularities."""
        taught = "" if self.teacher_scores is None else " with teacher scores"
        lines = [
            f"{source}: {len(self.examples)} training {self.kind}{taught}, of "
            f"{len(self.queries) - sum(map(len, self.development_queries))} queries and "
            f"{len(self.documents) - sum(map(len, self.development_documents))} documents, "
            f"{len(self.validation)} pairs held out"
        ]
        if self.mix is not None:
            lines += self.mix.describe()
        lines += [f"development: {one.about}" for one in self.development]
        odd = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.notes.items() if count)
        return [*lines, f"{source} holds {odd}"] if odd else lines


def load_training_data(config: ExperimentConfig) -> TrainingData:
    """Read the training examples and hold out some documents for validation.

    The choice of examples (``max_pairs``) and held-out documents depends only on the data, so it is the same for every
    variant and seed. A tuple is held out together with its first document: no held-out document is relevant in
    training, but it may occur there as a negative of a different query.

    Raises:
        ProjheadsError: If the data cannot be read, too few examples remain for one step, or the loss needs teacher
            scores and there are none.
    """
    train = config.train
    read = [_read(part, config.cache) for part in train.data.parts]
    for part, (one, _) in zip(train.data.parts, read, strict=True):
        _check_part(part, one, train.loss)
    notes: Counter[str] = Counter()
    for _, counted in read:
        notes.update(counted)
    generator = example_generator()
    chosen = draw_examples(sum(len(one.rows) for one, _ in read), train.max_pairs, generator)
    tuples, part_of = mixed([one for one, _ in read], chosen)
    pairs = tuples.rows[:, :2]
    held_out = _held_out(pairs, train.validation_pairs, generator)
    tuples = _corrupted(tuples, held_out, train.corrupt)
    left, step = int((~held_out).sum()), train.batch_size * train.gradient_accumulation
    if left < step and not {"batch_size", "gradient_accumulation"} & config.sweep.grid.keys():
        accumulated = f" x train.gradient_accumulation={train.gradient_accumulation}" * (
            train.gradient_accumulation > 1
        )
        raise ProjheadsError(
            f"train.data: {train.data} leaves {left} training examples, too few for one step of "
            f"train.batch_size={train.batch_size}{accumulated}; lower it or train.validation_pairs"
        )
    judged = np.concatenate([tuples.rows[:, :2], tuples.judged])
    copies = _copies(tuples, judged)
    if len(copies):
        notes["judgements_that_also_hold_for_an_identical_text"] = len(copies)
    mix = None
    if train.data.mix:
        mix = make_mix(train.data, part_of[~held_out], step)
    hashed = [tuples.hash, train.max_pairs, train.validation_pairs, *tuples.excluded.tolist()]
    if len(copies):
        hashed += ["copies", copies.tolist()]
    # Relevant documents of pairs that were not chosen, which the hash of the collection does not cover.
    others = tuples.judged[~_among(tuples.judged, pairs)]
    if len(others) and tuples.rows.shape[1] == 2:
        hashed += ["relevant", others.tolist()]
    if train.corrupt:
        hashed.append(f"corrupt={train.corrupt}")
    development = tuple(load_development(one, config.cache, tuples.queries) for one in train.validation)
    hashed += [one.hash for one in development]
    return TrainingData(
        queries=joined(tuples.queries, [text for one in development for text in one.queries]),
        documents=joined(tuples.documents, [text for one in development for text in one.documents]),
        examples=tuples.rows[~held_out],
        teacher_scores=None if tuples.scores is None else tuples.scores[~held_out],
        validation=pairs[held_out][: train.validation_pairs],
        relevant=_by_query(np.concatenate([judged, copies])),
        hash=sha256_json(hashed),
        notes=dict(notes),
        excluded=_by_query(tuples.excluded),
        development=development,
        mix=mix,
    )


def _check_part(part: DataPart, tuples: Tuples, loss: Loss) -> None:
    """Check that a source can be trained on with a loss."""
    if loss.needs_teacher and tuples.scores is None:
        raise ProjheadsError(
            f"train.loss: {loss.name} needs teacher scores, and {part.tuples} has none; "
            "add them with `python -m train teach`, or use `loss: contrastive`"
        )
    if not len(tuples.rows):
        raise ProjheadsError(
            f"train.data: {part} has no usable pairs: no judgement above grade 0 joins a query and a document "
            "that both exist and are not empty; check its ids and grades"
        )


def _corrupted(tuples: Tuples, held_out: np.ndarray, share: float) -> Tuples:
    """Give a share of the training examples the relevant document of another one, which is not relevant to them.

    The wrong document then counts as relevant and the right one does not, since nothing knows which pairs are wrong.

    Raises:
        ProjheadsError: If an example has no wrong document, because every other document is relevant to its query.
    """
    kept = np.flatnonzero(~held_out)
    generator = numpy_generator(0, "corrupted pairs")
    chosen = np.sort(generator.permutation(kept)[: round(share * len(kept))])
    if not len(chosen):
        return tuples
    right = np.concatenate([tuples.rows[:, :2], tuples.judged])
    rows, missing = tuples.rows.copy(), chosen
    for _ in range(CORRUPTION_DRAWS):
        rows[missing, 1] = generator.choice(tuples.rows[kept, 1], len(missing))
        missing = missing[_among(rows[missing, :2], right)]
        if not len(missing):
            break
    else:
        raise ProjheadsError("train.corrupt: some queries have no wrong document; use more examples, or lower it")
    judged = tuples.judged[~_among(tuples.judged, tuples.rows[chosen, :2])]
    return replace(tuples, rows=rows, judged=judged)


def _read(data: DataPart, cache: Path) -> tuple[Tuples, dict[str, int]]:
    """Read the examples, and the counts of irregularities of their collection."""
    collection = open_collection(data.source, split=data.split, cache=cache) if data.source else None
    notes = dict(collection.notes) if collection else {}
    excluded = excluded_ids(collection, data.source, data.exclude_own_id) if collection and data.source else ()
    if excluded:
        notes[EXCLUDED] = len(excluded)
    if data.hub_tuples is not None:
        return read_hub_tuples(*data.hub_tuples, split=data.split, n_ways=data.n_ways), notes
    if data.tuples is not None:
        path = Path(data.tuples).expanduser()
        return read_tuples(path, n_ways=data.n_ways, collection=collection, excluded=excluded), notes
    if collection is None:
        raise ProjheadsError("train.data: set `source` or `tuples`, where the examples come from")
    return pairs_of(collection, excluded), notes


def order_of(data: TrainingData, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the batches of a trial: (batch_size,) int64 rows of ``data.examples``, ``steps`` times.

    The order depends only on the seed, so all variants of a seed see the same batches. Every epoch is a new permutation
    of the examples; an incomplete batch at its end is dropped. In a mix, every batch is of one source.
    """
    if data.mix is not None:
        yield from data.mix.order(batch_size, steps, seed)
        return
    per_epoch = len(data.examples) // batch_size
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            permutation = numpy_generator(seed, "data order", epoch).permutation(len(data.examples))
        yield permutation[position * batch_size : (position + 1) * batch_size]


def _copies(tuples: Tuples, judged: np.ndarray) -> np.ndarray:
    """Return the pairs (n, 2) that are relevant because a pair of the same two texts, under other ids, is judged so."""
    queries, documents = (
        {place: group for group in repeated_texts(texts) for place in group}
        for texts in (tuples.queries, tuples.documents)
    )
    known = judged[np.isin(judged[:, 0], list(queries)) | np.isin(judged[:, 1], list(documents))].tolist()
    copies = {
        (query, document)
        for one, other in known
        for query in queries.get(one, (one,))
        for document in documents.get(other, (other,))
    }
    return np.array(sorted(copies - set(map(tuple, known))), np.int64).reshape(-1, 2)


def _among(pairs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mark the pairs (n, 2) that are among others (m, 2), (n,) bool."""
    width = 1 + max(both[:, 1].max(initial=0) for both in (pairs, others))
    found: np.ndarray = np.isin(*(both[:, 0] * width + both[:, 1] for both in (pairs, others)))
    return found


def _last(texts: Sequence[str], parts: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return the indices of the parts that the texts end with, (n,) int64 each."""
    ends = len(texts) - sum(map(len, parts)) + np.cumsum([0, *map(len, parts)])
    return [np.arange(start, end) for start, end in pairwise(ends)]


def _by_query(pairs: np.ndarray) -> Mapping[int, list[int]]:
    """List the documents of each query of (n, 2) pairs, each once."""
    documents: defaultdict[int, list[int]] = defaultdict(list)
    for query, document in np.unique(pairs, axis=0).tolist():
        documents[query].append(document)
    return documents


def _held_out(pairs: np.ndarray, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """Mark pairs (n,) for validation: all pairs of randomly drawn documents, until ``wanted`` are marked."""
    held_out = np.zeros(len(pairs), dtype=bool)
    if not wanted or not len(pairs):
        return held_out
    order = generator.permutation(int(pairs[:, 1].max()) + 1)
    counts = np.bincount(pairs[:, 1], minlength=len(order))[order]
    enough = int(np.searchsorted(np.cumsum(counts), min(wanted, len(pairs) // 5))) + 1
    return np.isin(pairs[:, 1], order[:enough])
