"""Embeddings of a data set's texts, subject by subject."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from eval.subjects import Subject
from experiment.console.progress import Progress
from experiment.disk.files import sha256_json
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import check_intact, saved_backbone_hash
from experiment.encoding.device import autocast
from experiment.encoding.speed import sample_texts
from experiment.encoding.store import TokenStore, remove_store, unnamed_file
from experiment.encoding.tokens import encode_tokens, text_key
from projheads.errors import ProjheadsError
from projheads.hosts import load_host
from projheads.hosts.base import HostModel
from projheads.hosts.model_folder import read_head

__all__ = ["Encoding", "SubjectEncoder", "project_tokens"]

PROJECTED_ROWS = 2**15
"""Token states that a head projects in one batch."""

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


class SubjectEncoder:
    """Embeds the queries and documents of one data set with each subject; what subjects share is encoded once."""

    def __init__(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        encoding: Encoding,
        progress: Progress,
    ) -> None:
        self._texts = {"queries": queries, "documents": documents}
        self._text_keys = {side: text_key(texts) for side, texts in self._texts.items()}
        self._encoding = encoding
        self._progress = progress
        self._states: dict[Path, tuple[TokenStore, TokenStore]] = {}
        self._opened: tuple[Path, HostModel] | None = None
        self._pieces: dict[tuple[Path, str], np.ndarray | None] = {}

    @contextmanager
    def embedded(self, subject: Subject) -> Iterator[tuple[TokenStore, TokenStore]]:
        """Yield the embeddings of queries and of documents, of norm 1, valid inside the block.

        Those of a subject that is ``kept`` stay in the cache.

        Raises:
            ProjheadsError: If the model is damaged or cannot be opened, or produces embeddings that are not finite.
        """
        _check_intact(subject)
        if not subject.frozen:
            folder, key = self._embedding_folder(subject)
            yield self._encode(self._open(subject), folder, key, project=True)
            self.remove_embeddings([subject])
            return
        head = nn.Identity() if subject.kind == "backbone" else read_head(subject.model).float()
        with self.projected(subject, head) as embeddings:
            yield embeddings

    def remove_embeddings(self, subjects: Iterable[Subject]) -> None:
        """Delete the embeddings of subjects that need them no more, except for those that are kept.

        What another process is encoding at this moment is left to it.
        """
        for subject in subjects:
            if not subject.frozen and not subject.kept and subject.kind == "model":
                for side in self._texts:
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
        states, encoding = self.token_states(subject), self._encoding
        with unnamed_file(encoding.cache) as query_file, unnamed_file(encoding.cache) as document_file:
            queries, documents = (
                project_tokens(store, head, file, encoding.device, encoding.precision, encoding.dtype)
                for store, file in zip(states, (query_file, document_file), strict=True)
            )
            yield queries, documents

    def estimate(self, subject: Subject) -> tuple[float, float, float]:
        """Estimate from a few texts: seconds to encode the data set, token vectors of all queries, of all documents.

        The seconds are 0 if the token states are cached.
        """
        _check_intact(subject)
        folder = self._state_folder(subject)
        if subject.frozen and all((self._store(folder, side) / "store.json").exists() for side in self._texts):
            queries, documents = self.token_states(subject)
            return 0.0, len(queries.vectors), len(documents.vectors)
        model, seconds, tokens = self._open(subject), 0.0, []
        for side, texts in self._texts.items():
            sample = sample_texts(model, texts, is_query=side == "queries", precision=self._encoding.precision)
            seconds += sample.seconds * len(texts)
            tokens.append(sample.tokens * len(texts))
        return seconds, tokens[0], tokens[1]

    def share_states(self, subject: Subject) -> None:
        """Cache the token states of a subject's backbone if other subjects share it.

        Raises:
            ProjheadsError: If the model is damaged or cannot be opened, or produces token states that are not finite.
        """
        if subject.frozen:
            self.token_states(subject)

    def token_states(self, subject: Subject) -> tuple[TokenStore, TokenStore]:
        """Return the backbone's token states, cached for every subject and experiment that shares the backbone."""
        _check_intact(subject)
        folder = self._state_folder(subject)
        if folder not in self._states:
            self._states[folder] = self._encode(self._open(subject), folder, folder.name, project=False)
        return self._states[folder]

    def word_pieces(self, subject: Subject, texts: Sequence[int], *, is_query: bool) -> np.ndarray | None:
        """Return the word piece of every token embedding of some texts, (n,) int64; None for tokens without ids.

        Models that read texts the same way are asked once.

        Args:
            subject: The subject.
            texts: Places of the texts in the data set.
            is_query: Whether they are queries.
        """
        side = "queries" if is_query else "documents"
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

    def _store(self, folder: Path, side: str) -> Path:
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

    def _encode(self, model: HostModel, folder: Path, key: str, *, project: bool) -> tuple[TokenStore, TokenStore]:
        stores = []
        for side, texts in self._texts.items():
            with self._progress.step(f"encoding {len(texts)} {side}", len(texts)) as advance:
                store = encode_tokens(
                    model,
                    texts,
                    is_query=side == "queries",
                    project=project,
                    precision=self._encoding.precision,
                    dtype=self._encoding.dtype,
                    folder=self._store(folder, side),
                    key=key,
                    batch_tokens=self._encoding.batch_tokens,
                    progress=advance,
                )
            stores.append(store)
        self._opened = None
        queries, documents = stores
        return queries, documents


def _check_intact(subject: Subject) -> None:
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
        for first in range(0, len(store.vectors), PROJECTED_ROWS):
            states = torch.tensor(store.vectors[first : first + PROJECTED_ROWS]).to(device).float()
            with autocast(device, precision):
                projected = head(states)
            rows = F.normalize(projected.float(), dim=-1)
            if not rows.isfinite().all():
                raise ProjheadsError("its head produces embeddings that are not finite")
            width = rows.shape[1]
            file.write(rows.cpu().numpy().astype(dtype).tobytes())
    file.flush()
    shape = (len(store.vectors), width)
    vectors = np.memmap(file, dtype, "r", shape=shape) if len(store.vectors) else np.zeros(shape, dtype)
    return TokenStore(vectors, store.offsets, store.truncated, store.seconds + time.perf_counter() - started)
