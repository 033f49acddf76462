"""Embeddings of a data set's texts, subject by subject."""

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from eval.encoding_work import EncodingWork, measure_encoding
from eval.sizes import WINDOW_IN_MEMORY
from eval.subjects import Subject
from experiment.console.progress import Progress
from experiment.disk.files import sha256_json
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import check_intact, saved_backbone_hash
from experiment.encoding.device import autocast
from experiment.encoding.store import TokenStore, packed_rows, remove_store, unnamed_file
from experiment.encoding.tokens import encode_tokens, text_key
from experiment.encoding.windows import text_slices
from experiment.needs import Backbone
from projheads.errors import ProjheadsError
from projheads.hosts import load_host
from projheads.hosts.base import HostModel
from projheads.hosts.model_folder import read_head

__all__ = ["Encoded", "Encoding", "SubjectEncoder", "check_subject", "project_tokens", "read_subject_head"]

CHARACTERS_PER_TOKEN = 3
"""A window's vectors are in a temporary file if, at so many characters a token, they exceed ``WINDOW_IN_MEMORY``."""

PROJECTED_ROWS = 2**12
"""Token states that a head projects in one batch, few enough for a cache; a batch is of one slice of texts."""

Side = Literal["queries", "documents"]
SIDES: tuple[Side, Side] = ("queries", "documents")

PIECES_AT_ONCE = 256
"""Texts that are tokenised at once."""


@dataclass(frozen=True)
class Encoding:
    """How texts are encoded.

    Attributes:
        device: The device that encodes.
        precision: Arithmetic of backbone and head: ``fp32``, ``bf16`` or ``fp16``.
        batch_tokens: Tokens per batch; None for the default of the device.
        cache: Folder of token states and of models' embeddings, which are kept, and of temporary embeddings.
        dtype: Data type of the token embeddings, and of the token states that they are computed from.
    """

    device: torch.device
    precision: str
    batch_tokens: int | None
    cache: Path
    dtype: Literal["float16", "float32"] = "float16"


@dataclass(frozen=True)
class Encoded:
    """What encoding the texts of a data set with a subject took.

    Attributes:
        seconds: How long it took.
        truncated: Queries and documents that lost tokens at the length limit.
        document_bytes: Bytes of the documents' token embeddings.
    """

    seconds: float
    truncated: tuple[int, int]
    document_bytes: int

    @classmethod
    def of(cls, queries: TokenStore, documents: TokenStore) -> "Encoded":
        """Describe embeddings that are stored."""
        return cls(
            queries.seconds + documents.seconds, (queries.truncated, documents.truncated), documents.vectors.nbytes
        )


class SubjectEncoder:
    """Embeds the queries and documents of one data set with each subject; what subjects share is encoded once."""

    def __init__(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        encoding: Encoding,
        progress: Progress,
    ) -> None:
        self._texts: dict[Side, Sequence[str]] = {"queries": queries, "documents": documents}
        self._text_keys = {side: text_key(texts) for side, texts in self._texts.items()}
        self._encoding = encoding
        self._progress = progress
        self._states: dict[Path, TokenStore] = {}
        self._opened: tuple[Path, HostModel] | None = None
        self._pieces: dict[tuple[Path, str], np.ndarray | None] = {}

    @contextmanager
    def embedded(self, subject: Subject) -> Iterator[tuple[TokenStore, TokenStore]]:
        """Yield the embeddings of queries and of documents, of norm 1, valid inside the block.

        Those of a subject that is ``kept`` stay in the cache.

        Raises:
            ProjheadsError: If the model is damaged or cannot be opened, or produces embeddings that are not finite.
        """
        check_subject(subject)
        if not subject.frozen:
            yield self._stored(subject, "queries"), self._stored(subject, "documents")
            self._opened = None
            self.remove_embeddings([subject])
            return
        with self.projected(subject, read_subject_head(subject)) as embeddings:
            yield embeddings

    def remove_embeddings(self, subjects: Iterable[Subject]) -> None:
        """Delete the embeddings of subjects that need them no more, except for those that are kept.

        What another process is encoding at this moment is left to it.
        """
        for subject in subjects:
            if not subject.frozen and not subject.kept and subject.kind == "model":
                for side in SIDES:
                    store = self._store(self._embedding_folder(subject)[0], side)
                    if store.exists():
                        remove_store(store, wait=False)

    def _embedding_folder(self, subject: Subject) -> tuple[Path, str]:
        """Return the folder of a subject's embeddings and the key of what they are computed from."""
        key = sha256_json([subject.host, subject.fingerprint])
        return self._encoding.cache / "embeddings" / key[:32], key

    @contextmanager
    def projected(self, subject: Subject, head: nn.Module) -> Iterator[tuple[TokenStore, TokenStore]]:
        """Yield the embeddings that a head computes from the token states of a frozen subject's backbone.

        Raises:
            ProjheadsError: If the head produces embeddings that are not finite.
        """
        states, cache = self.token_states(subject), self._encoding.cache
        with unnamed_file(cache) as query_file, unnamed_file(cache) as document_file:
            yield self._project(states[0], head, query_file), self._project(states[1], head, document_file)

    def measure(self, subject: Subject) -> EncodingWork:
        """Return what encoding the data set with a subject takes; no time if its token states are cached.

        Raises:
            ProjheadsError: If the model is damaged or cannot be opened.
        """
        check_subject(subject)
        if self.has_states(subject):
            queries, documents = self.token_states(subject)
            backbone = Backbone(0, 0, documents.width)
            return EncodingWork(0.0, len(queries.vectors), len(documents.vectors), 0.0, backbone)
        return self.measure_model(self._open(subject))

    def measure_model(self, model: HostModel) -> EncodingWork:
        """Return what encoding the data set with an open model takes, from a few texts."""
        return measure_encoding(model, self._texts["queries"], self._texts["documents"], self._encoding.precision)

    def share_states(self, subject: Subject) -> None:
        """Cache the token states of a subject's backbone if other subjects share it.

        Raises:
            ProjheadsError: If the model is damaged or cannot be opened, or produces token states that are not finite.
        """
        if subject.frozen:
            self.token_states(subject)

    def token_states(self, subject: Subject) -> tuple[TokenStore, TokenStore]:
        """Return the backbone's token states, cached for every subject and experiment that shares the backbone."""
        check_subject(subject)
        states = self._stored(subject, "queries"), self._stored(subject, "documents")
        self._opened = None
        return states

    def has_states(self, subject: Subject) -> bool:
        """Return whether all token states of a frozen subject's backbone are cached, or are being computed."""
        if not subject.frozen:
            return False
        folder = self._state_folder(subject)
        return all((self._store(folder, side) / "store.json").exists() for side in SIDES)

    def encoded_as(self, subject: Subject) -> str:
        """Return a key that frozen subjects share if their token states are the same, and other subjects do not."""
        folder = self._state_folder(subject) if subject.frozen else self._embedding_folder(subject)[0]
        return sha256_json([self._store(folder, side).relative_to(self._encoding.cache).as_posix() for side in SIDES])

    def query_store(self, subject: Subject) -> TokenStore:
        """Return what the backbone of a frozen subject, or all of another, makes of the queries."""
        return self._stored(subject, "queries")

    @contextmanager
    def queries_of(self, subject: Subject, head: nn.Module | None) -> Iterator[TokenStore]:
        """Yield the embeddings of the queries, valid inside the block; ``head`` is None if the subject is not frozen.

        Raises:
            ProjheadsError: As in ``embedded``.
        """
        store = self._stored(subject, "queries")
        if head is None:
            yield store
            return
        with unnamed_file(self._encoding.cache) as file:
            yield self._project(store, head, file)

    @contextmanager
    def window_of(self, subject: Subject, texts: Sequence[str]) -> Iterator[TokenStore]:
        """Yield what the backbone of a frozen subject, or all of another, makes of one window of documents.

        Raises:
            ProjheadsError: If the model cannot be opened, or produces vectors that are not finite.
        """
        model = self._open(subject)
        with ExitStack() as stack:
            file: BinaryIO = io.BytesIO()
            # As many tokens as the longest text has after truncation are all that another one can have.
            longest = model.tokenize([max(texts, key=len)], is_query=False)["input_ids"].shape[1]
            tokens = sum(min(len(text) // CHARACTERS_PER_TOKEN, longest) for text in texts)
            width = model.in_features if subject.frozen else model.out_features
            if tokens * width * np.dtype(self._encoding.dtype).itemsize > WINDOW_IN_MEMORY:
                file = stack.enter_context(unnamed_file(self._encoding.cache))
            yield encode_tokens(
                model,
                texts,
                is_query=False,
                project=not subject.frozen,
                precision=self._encoding.precision,
                dtype=self._encoding.dtype,
                file=file,
                batch_tokens=self._encoding.batch_tokens,
            )

    def project_slice(self, texts: TokenStore, head: nn.Module) -> TokenStore:
        """Compute the embeddings of one slice of texts from their token states, in memory.

        Raises:
            ProjheadsError: If an embedding is not finite.
        """
        return self._project(texts, head, io.BytesIO())

    def _project(self, store: TokenStore, head: nn.Module, file: BinaryIO) -> TokenStore:
        encoding = self._encoding
        return project_tokens(store, head, file, encoding.device, encoding.precision, encoding.dtype)

    def word_pieces(self, subject: Subject, texts: Sequence[int], *, is_query: bool) -> np.ndarray | None:
        """Return the word piece of every token embedding of some texts, (n,) int64; None for tokens without ids.

        Models that read texts the same way are asked once.

        Args:
            subject: The subject.
            texts: Places of the texts in the data set.
            is_query: Whether they are queries.
        """
        side: Side = "queries" if is_query else "documents"
        key = self._state_folder(subject), sha256_json([side, list(texts)])
        if key not in self._pieces:
            model, found = self._open(subject), []
            for first in range(0, len(texts), PIECES_AT_ONCE):
                chosen = [self._texts[side][text] for text in texts[first : first + PIECES_AT_ONCE]]
                tokens = model.tokenize(chosen, is_query=is_query)
                if "input_ids" not in tokens:
                    break
                found.append(tokens["input_ids"][model.scoring_mask(tokens, is_query=is_query).cpu().bool()].numpy())
            self._opened = None
            self._pieces[key] = np.concatenate(found) if found else None
        return self._pieces[key]

    def reading(self, subject: Subject) -> str:
        """Return a hash of how a subject reads texts."""
        return self._state_folder(subject).name

    def lengths(self, subject: Subject, texts: Sequence[str], *, is_query: bool) -> list[tuple[int, bool]]:
        """Return the number of token embeddings of each text, and whether it exceeds the maximum length."""
        model, found = self._open(subject), []
        for first in range(0, len(texts), PIECES_AT_ONCE):
            chosen = texts[first : first + PIECES_AT_ONCE]
            counts = model.scoring_mask(model.tokenize(chosen, is_query=is_query), is_query=is_query).sum(1).tolist()
            cut = [bool(model.count_truncated([text], is_query=is_query)) for text in chosen]
            found += list(zip(counts, cut, strict=True))
        self._opened = None
        return found

    def _state_folder(self, subject: Subject) -> Path:
        key = sha256_json([subject.host, saved_backbone_hash(subject.model)])
        return self._encoding.cache / "states" / key[:32]

    def _store(self, folder: Path, side: Side) -> Path:
        kind = self._encoding.precision + "-float32" * (self._encoding.dtype == "float32")
        return folder / f"{side}-{self._text_keys[side][:16]}-{kind}"

    def _open(self, subject: Subject) -> HostModel:
        if self._opened is None or self._opened[0] != subject.model:
            # In float32, so that the weights' own type has no part in the arithmetic.
            opened = load_host(subject.host).load(
                str(subject.model), subject.options, device=str(self._encoding.device), dtype=torch.float32
            )
            self._opened = subject.model, opened
        return self._opened[1]

    def _stored(self, subject: Subject, side: Side) -> TokenStore:
        """Return the cached token states of a frozen subject's backbone, or the embeddings of another subject."""
        if subject.frozen:
            folder = self._state_folder(subject)
            key = folder.name
        else:
            folder, key = self._embedding_folder(subject)
        path, texts = self._store(folder, side), self._texts[side]
        if path in self._states:
            return self._states[path]
        with self._progress.step(f"encoding {len(texts)} {side}", len(texts)) as advance:
            store = encode_tokens(
                self._open(subject),
                texts,
                is_query=side == "queries",
                project=not subject.frozen,
                precision=self._encoding.precision,
                dtype=self._encoding.dtype,
                folder=path,
                key=key,
                batch_tokens=self._encoding.batch_tokens,
                progress=advance,
            )
        if subject.frozen:
            self._states[path] = store
        return store


def read_subject_head(subject: Subject) -> nn.Module:
    """Return the head of a frozen subject, in float32; the identity if it is the backbone."""
    return nn.Identity() if subject.kind == "backbone" else read_head(subject.model).float()


def check_subject(subject: Subject) -> None:
    """Check that a subject's model is still what was saved.

    Raises:
        ProjheadsError: If it is not.
    """
    if subject.saved_hash is not None:
        experiment = ExperimentFolder(subject.folder.path.parents[2])
        check_intact(subject.model, subject.saved_hash, experiment.experiment_yaml)


def project_tokens(
    store: TokenStore,
    head: nn.Module,
    file: BinaryIO,
    device: torch.device,
    precision: str,
    dtype: Literal["float16", "float32"] = "float16",
) -> TokenStore:
    """Compute embeddings from token states: normalize(head(states)), in a file and with bounded memory.

    Raises:
        ProjheadsError: If an embedding is not finite.
    """
    started = time.perf_counter()
    head = head.to(device).eval()
    width = store.width
    with torch.no_grad():
        for rows in _blocks(store):
            states = torch.tensor(store.vectors[rows]).to(device).float()
            with autocast(device, precision):
                projected = head(states)
            embeddings = F.normalize(projected.float(), dim=-1)
            if not embeddings.isfinite().all():
                raise ProjheadsError("its head produces embeddings that are not finite")
            width = embeddings.shape[1]
            file.write(embeddings.cpu().numpy().astype(dtype).tobytes())
    vectors = packed_rows(file, dtype, (len(store.vectors), width))
    return TokenStore(vectors, store.offsets, store.truncated, store.seconds + time.perf_counter() - started)


def _blocks(store: TokenStore) -> Iterator[slice]:
    """Divide the rows of a store into batches, none across two slices, so that a slice gives the same batches."""
    for texts in text_slices(store.offsets):
        end = int(store.offsets[texts.stop])
        for first in range(int(store.offsets[texts.start]), end, PROJECTED_ROWS):
            yield slice(first, min(first + PROJECTED_ROWS, end))
