"""What a diagnostic may read: the embeddings and the run of one trial or reference row on one data set.

Everything that is drawn is drawn from seeded streams that depend on nothing else, so that a diagnostic gives the same
bits every time, and that all variants are compared on the same texts. Samples bound time and memory for any corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from eval.embed import Encoding, SubjectEncoder
from eval.explain.branches import Branch, branches_of, contribution
from eval.runs import Run, read_run
from eval.search_task import SearchTask
from eval.subjects import Subject
from experiment.console.progress import Progress
from experiment.disk.files import sha256_json
from experiment.disk.records import EvaluationRecord, ProbePoint, read_train_lines
from experiment.encoding.store import TokenStore
from experiment.seeds import numpy_generator
from projheads.hosts.model_folder import read_head

__all__ = ["SAMPLED_TOKENS", "Given", "Tokens", "probes_hash", "read_probes"]

SAMPLED_TOKENS = 2**14
"""About so many token embeddings of each side are sampled, in complete texts."""

SAMPLED_STATES = 2**11
"""At most so many token states are sampled."""

SAMPLED_PAIRS = 512
"""At most so many pairs of a query and a relevant document are sampled."""


@dataclass(frozen=True)
class Tokens:
    """Token embeddings of sampled texts.

    Attributes:
        rows: (n, width) float64, text after text.
        texts: (n,) int64: the place of each row's text in the data set.
        positions: (n,) int64: the place of each row in its text.
    """

    rows: np.ndarray
    texts: np.ndarray
    positions: np.ndarray

    @cached_property
    def singular_values(self) -> np.ndarray:
        """Singular values of ``rows``, the largest first, (width,)."""
        values: np.ndarray = np.sqrt(_eigenvalues(self.rows))
        return values

    @cached_property
    def variances(self) -> np.ndarray:
        """Variances along the principal directions, the largest first, (width,)."""
        return _eigenvalues(self.rows - self.rows.mean(axis=0)) / len(self.rows)


@dataclass(frozen=True)
class Given:
    """What an evaluation gives to a diagnostic.

    Attributes:
        subject: The trial or reference row.
        task: The data set, which can be searched and measured.
        encoder: Computes embeddings and token states.
        encoding: How texts are encoded, and the device.
        queries: Embeddings of all judged queries, of norm 1.
        documents: Embeddings of all documents, of norm 1.
        record: The finished evaluation.
        progress: Where it is shown what is being done.
    """

    subject: Subject
    task: SearchTask
    encoder: SubjectEncoder
    encoding: Encoding
    queries: TokenStore
    documents: TokenStore
    record: EvaluationRecord
    progress: Progress

    @cached_property
    def run(self) -> Run:
        """What was found for each query."""
        return read_run(self.subject.folder.eval_run(self.task.dataset.name))

    @cached_property
    def probes(self) -> dict[str, ProbePoint]:
        """How gradients flowed at the start, in the middle and at the end of the training; empty if not recorded."""
        return read_probes(self.subject)

    @cached_property
    def query_tokens(self) -> Tokens:
        """Token embeddings of sampled queries."""
        return self._sample(self.queries, "queries")

    @cached_property
    def document_tokens(self) -> Tokens:
        """Token embeddings of sampled documents."""
        return self._sample(self.documents, "documents")

    @cached_property
    def both_tokens(self) -> Tokens:
        """Token embeddings of sampled queries and documents, the same number of each."""
        sides = (self.query_tokens, self.document_tokens)
        size = min(len(side.rows) for side in sides)
        parts = [(side.rows[:size], side.texts[:size], side.positions[:size]) for side in sides]
        rows, texts, positions = (np.concatenate(one) for one in zip(*parts, strict=True))
        texts[size:] += len(self.queries)
        return Tokens(rows, texts, positions)

    @cached_property
    def head(self) -> nn.Module | None:
        """The head, in evaluation mode, if its backbone is frozen, whose token states are kept."""
        if self.subject.kind != "model" or not self.subject.frozen:
            return None
        return read_head(self.subject.model).float().eval()

    @cached_property
    def sampled_states(self) -> Tensor:
        """Token states of sampled documents, (n, in_features) float32, for ``head``."""
        _, states = self.encoder.token_states(self.subject)
        texts = list(dict.fromkeys(self.document_tokens.texts.tolist()))
        rows = np.concatenate([states[text] for text in texts])[:SAMPLED_STATES]
        return torch.from_numpy(rows.astype(np.float32))

    @cached_property
    def branches(self) -> list[Branch]:
        """The branches of ``head``; empty without one."""
        return [] if self.head is None else branches_of(self.head, self.sampled_states)

    @cached_property
    def contributions(self) -> dict[str, tuple[float, float]]:
        """By branch, its share of the norms in its sum, and its mean cosine with the sum."""
        if self.head is None:
            return {}
        return {one.name: contribution(self.head, one, self.sampled_states) for one in self.branches}

    @cached_property
    def document_pieces(self) -> np.ndarray | None:
        """The word piece of each of ``document_tokens``, (n,) int64; None if the model's tokens have no ids."""
        tokens = self.document_tokens
        texts = list(dict.fromkeys(tokens.texts.tolist()))
        pieces = self.encoder.word_pieces(self.subject, texts, is_query=False)
        return pieces if pieces is not None and len(pieces) == len(tokens.rows) else None

    @cached_property
    def matched_tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of sampled queries, and what wins each in a relevant document, both (n, width) float64."""
        places = {name: place for place, name in enumerate(self.task.document_ids)}
        pairs = [
            (query, places[name])
            for query, judged in enumerate(self.task.collection.qrels.values())
            for name, grade in judged.items()
            if grade > 0 and name in places and self.documents.lengths[places[name]] and self.queries.lengths[query]
        ]
        order = numpy_generator(0, "explain", "pairs").permutation(len(pairs))[:SAMPLED_PAIRS]
        ours, theirs = [np.zeros((0, self.queries.width))], [np.zeros((0, self.queries.width))]
        for query, document in (pairs[number] for number in order):
            tokens, rows = (np.asarray(one, np.float64) for one in (self.queries[query], self.documents[document]))
            ours.append(tokens)
            theirs.append(rows[(tokens @ rows.T).argmax(axis=1)])
        return np.concatenate(ours), np.concatenate(theirs)

    def sides(self) -> Iterator[tuple[str, Tokens]]:
        """Yield the names and token embeddings of documents, of queries, and of both together."""
        yield "documents", self.document_tokens
        yield "queries", self.query_tokens
        yield "both", self.both_tokens

    def _sample(self, store: TokenStore, side: str) -> Tokens:
        """Draw texts until their tokens suffice; the texts depend on the data set only."""
        order = numpy_generator(0, "explain", side).permutation(len(store))
        enough = int(np.searchsorted(np.cumsum(store.lengths[order]), SAMPLED_TOKENS)) + 1
        texts = [int(text) for text in order[:enough] if store.lengths[text]]
        rows = [np.asarray(store[text], np.float64) for text in texts]
        lengths = [len(one) for one in rows]
        return Tokens(
            np.concatenate(rows),
            np.repeat(np.array(texts), lengths),
            np.concatenate([np.arange(length) for length in lengths]),
        )


def read_probes(subject: Subject) -> dict[str, ProbePoint]:
    """Read the probes of a trial's training: the first at the start and in the middle, and the last at the end."""
    lines = read_train_lines(subject.folder.train_jsonl) if subject.folder.trial_json.exists() else []
    points = [line.probe for line in lines if line.probe is not None]
    found: dict[str, ProbePoint] = {point.when: point for point in reversed(points) if point.when != "end"}
    found |= {point.when: point for point in points if point.when == "end"}
    return {when: found[when] for when in ("start", "middle", "end") if when in found}


def probes_hash(subject: Subject) -> str:
    """Hash what the probes of a trial's training found."""
    return sha256_json({when: point.model_dump() for when, point in read_probes(subject).items()})


def _eigenvalues(rows: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of rows^T rows, the largest first."""
    return np.asarray(np.linalg.eigvalsh(rows.T @ rows)[::-1].clip(min=0.0))
