"""Encodes texts into token vectors, in batches of similar length, streamed to disk and reused by later commands."""

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiment.disk.files import sha256_json, sha256_parts
from experiment.encoding import windows
from experiment.encoding.canonical import CanonicalShapes
from experiment.encoding.device import autocast
from experiment.encoding.store import LENGTH, Filled, StoreFolder, TokenStore, offsets_of, packed_rows
from experiment.encoding.threads import over_threads
from projheads.errors import ProjheadsError

__all__ = ["Encodable", "TokenStore", "encode_tokens", "text_key", "tokens_of_a_batch"]

ENCODING_VERSION = 3
"""Increment it when the same model and texts give different bytes, so that older stores are recomputed."""

CHUNK = 256
"""Texts tokenised at once."""

BATCH_TOKENS_ON_CPU = 1024
"""Enough for matrix products to run at full speed, and few enough for activations to stay in the CPU caches."""

BATCH_TOKENS_ELSEWHERE = 16384

CANONICAL_TOKENS_ELSEWHERE = 2048
"""Tokens of a canonical batch, which has few texts: only those of one rounded length."""


def tokens_of_a_batch(device: torch.device, *, canonical: bool = False) -> int:
    """Return the tokens of a batch unless a number is given."""
    elsewhere = CANONICAL_TOKENS_ELSEWHERE if canonical else BATCH_TOKENS_ELSEWHERE
    return BATCH_TOKENS_ON_CPU if device.type == "cpu" else elsewhere


def text_key(texts: Sequence[str]) -> str:
    """Hash texts and their order."""
    return sha256_parts(text.encode("utf-8", "surrogatepass") for text in texts)


class Encodable(Protocol):
    """What ``encode_tokens`` needs of a model.

    It is a subset of :class:`projheads.hosts.base.HostModel`.
    """

    @property
    def native(self) -> nn.Module:
        """The module that holds the backbone."""

    @property
    def head(self) -> nn.Module:
        """The projection head."""

    @property
    def in_features(self) -> int:
        """Width of a token state."""

    @property
    def out_features(self) -> int:
        """Width of a token embedding."""

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""

    def tokenize(self, texts: Sequence[str], *, is_query: bool) -> dict[str, Tensor]:
        """Turn texts into token tensors (B, L) on the CPU."""

    def count_truncated(self, texts: Sequence[str], *, is_query: bool) -> int:
        """Count the texts that lose tokens at the length limit."""

    def scoring_mask(self, tokens: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """Return the bool mask (B, L) of the tokens whose vectors are wanted."""

    def token_states(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the token states (B, L, in_features)."""


def encode_tokens(
    model: Encodable,
    texts: Sequence[str],
    *,
    is_query: bool,
    project: bool,
    precision: str = "fp32",
    dtype: Literal["float16", "float32"] = "float16",
    folder: Path | None = None,
    file: BinaryIO | None = None,
    key: str = "",
    batch_tokens: int | None = None,
    canonical: bool = False,
    progress: Callable[[int], None] | None = None,
) -> TokenStore:
    """Encode texts into the vectors of their scoring tokens.

    With a folder, memory is bounded for any number of texts: it holds the tokens of a window and the vectors of a
    batch. An interrupted store is completed, with the same bytes as one that was never interrupted. On the CPU, the
    same model, texts and arguments give the same bytes for any number of threads, since each thread encodes complete
    batches. If two processes ask for the same folder, the second waits and finds the work done.

    Args:
        model: The model; it is in evaluation mode during encoding.
        texts: The texts; an empty text still has its special tokens.
        is_query: Whether the texts are queries.
        project: True for token embeddings, normalize(head(states)), of width ``out_features``; False for the
            backbone's token states, of width ``in_features``.
        precision: Arithmetic of the backbone and the head: ``fp32``, ``bf16`` or ``fp16``.
        dtype: Data type of the stored vectors.
        folder: The folder of the store; None keeps it in memory.
        file: Without a folder, a file that holds the vectors instead of memory.
        key: Identifies what else the vectors depend on: the weights, and how the model reads texts. A store in
            ``folder`` with a different key is replaced.
        batch_tokens: Tokens per batch, padding included; a longer text is a separate batch. None is 1 024 on the CPU,
            per thread, and 16 384 elsewhere.
        canonical: Whether a text's vectors must not depend on the other texts: lengths are rounded up, and every batch
            of a length has as many rows. It costs some padding.
        progress: Called with the number of texts encoded since the last call.

    Raises:
        ProjheadsError: If a vector is not finite or overflows ``dtype``; nothing is clipped.
    """
    width = model.out_features if project else model.in_features
    if batch_tokens is None:
        batch_tokens = tokens_of_a_batch(model.device, canonical=canonical)
    shapes = CanonicalShapes.of(model, is_query=is_query) if canonical else None
    report = progress or (lambda count: None)
    encoder = _Encoder(model, is_query, project, precision, dtype, batch_tokens, shapes, report)
    if folder is None:
        vectors, lengths = file or io.BytesIO(), io.BytesIO()
        filled = encoder.fill(texts, Filled(), vectors, lengths, lambda filled: None)
        rows = packed_rows(vectors, dtype, (filled.rows, width))
        counts = np.frombuffer(lengths.getvalue(), LENGTH)
        return TokenStore(rows, offsets_of(counts), filled.truncated, filled.seconds)

    arguments = [is_query, project, precision, dtype, batch_tokens, model.device.type, *["canonical"] * canonical]
    full_key = sha256_json([ENCODING_VERSION, key, text_key(texts), len(texts), arguments])
    store = StoreFolder(folder, full_key, width, dtype)
    with store.claimed():
        done = store.filled()
        encoder.progress(done.texts)
        if done.texts < len(texts):
            with store.filling() as files:
                encoder.fill(texts, done, *files, lambda filled: store.commit(filled, *files))
        return store.open(len(texts))


@dataclass(frozen=True)
class _Encoder:
    model: Encodable
    is_query: bool
    project: bool
    precision: str
    dtype: str
    batch_tokens: int
    shapes: CanonicalShapes | None
    progress: Callable[[int], None]

    def fill(
        self,
        texts: Sequence[str],
        filled: Filled,
        vectors: BinaryIO,
        lengths: BinaryIO,
        commit: Callable[[Filled], None],
    ) -> Filled:
        """Encode the missing texts window by window, after those already there."""
        with _evaluation_mode(self.model):
            for start in range(filled.texts, len(texts), windows.WINDOW):
                started = time.perf_counter()
                window = texts[start : start + windows.WINDOW]
                counts = self._window(window, start, filled.rows, vectors)
                lengths.write(counts.tobytes())
                filled = Filled(
                    texts=start + len(window),
                    rows=filled.rows + int(counts.sum()),
                    truncated=filled.truncated + self._count_truncated(window),
                    seconds=filled.seconds + time.perf_counter() - started,
                )
                commit(filled)
        return filled

    def _count_truncated(self, texts: Sequence[str]) -> int:
        """Count the texts that lose tokens, a chunk at a time: what a tokeniser keeps of whole texts is large."""
        chunks = (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))
        return sum(self.model.count_truncated(chunk, is_query=self.is_query) for chunk in chunks)

    def _window(self, texts: Sequence[str], first_text: int, first_row: int, vectors: BinaryIO) -> np.ndarray:
        """Write the vectors of a window in the order of its texts; return the rows per text, (n,) int64."""
        batches = list(self._batches(texts))
        counts = np.zeros(len(texts), LENGTH)
        for batch in batches:
            counts[batch.texts] = batch.scoring.sum(1).numpy()
        first_rows, writing = first_row + offsets_of(counts), threading.Lock()

        def write(batch: _Batch) -> None:
            parts = torch.split(self._encode(batch), counts[batch.texts].tolist())
            stored = [
                self._stored(part, f"text {first_text + text}") for text, part in zip(batch.texts, parts, strict=True)
            ]
            with writing:
                for text, rows in zip(batch.texts, stored, strict=True):
                    vectors.seek(int(first_rows[text]) * rows.itemsize * rows.shape[1])
                    vectors.write(rows.tobytes())
                self.progress(len(batch.texts))

        if self.model.device.type == "cpu":
            over_threads(write, batches)
        else:
            for batch in batches:
                write(batch)
        return counts

    def _batches(self, texts: Sequence[str]) -> Iterator["_Batch"]:
        """Tokenise the texts, longest first, so that a batch that does not fit into memory fails at once."""
        by_length = sorted(range(len(texts)), key=lambda text: -len(texts[text]))
        for start in range(0, len(texts), CHUNK):
            chunk = np.array(by_length[start : start + CHUNK])
            tokens = self.model.tokenize([texts[text] for text in chunk], is_query=self.is_query)
            scoring = self.model.scoring_mask(tokens, is_query=self.is_query).cpu().bool()
            needed = scoring | tokens["attention_mask"].bool() if "attention_mask" in tokens else scoring
            lengths = needed.shape[1] - needed.flip(1).int().argmax(1)
            if self.shapes is not None:
                lengths = self.shapes.rounded(lengths)
                tokens = self.shapes.padded(tokens, int(lengths.max()))
            order = torch.argsort(lengths, descending=True, stable=True)
            while len(order):
                longest = int(lengths[order[0]])
                most = max(1, self.batch_tokens // longest)
                alike = int((lengths[order] == longest).sum()) if self.shapes is not None else most
                rows, order = order.tensor_split([min(most, alike)])
                repeated = rows[-1:].expand(most - len(rows) if self.shapes is not None else 0)
                cut = {name: value[torch.cat([rows, repeated]), :longest] for name, value in tokens.items()}
                yield _Batch(chunk[rows.numpy()], cut, scoring[rows, :longest])

    @torch.no_grad()  # Set here because it applies to one thread only.
    def _encode(self, batch: "_Batch") -> Tensor:
        """Return the vectors (n_rows, width) of a batch's scoring tokens, text after text, float32 on the CPU."""
        device = self.model.device
        with autocast(device, self.precision):
            states = self.model.token_states({name: value.to(device) for name, value in batch.tokens.items()})
            rows = states[: len(batch.texts), : batch.scoring.shape[1]][batch.scoring.to(device)]
            rows = self.model.head(rows) if self.project else rows
        rows = rows.float()
        return (F.normalize(rows, dim=-1) if self.project else rows).cpu()

    def _stored(self, rows: Tensor, place: str) -> np.ndarray:
        if not rows.isfinite().all():
            raise ProjheadsError(f"{place}: a token vector is not finite in {self.precision}; use bf16 or fp32")
        if rows.numel() and rows.abs().max() > np.finfo(self.dtype).max:
            raise ProjheadsError(f"{place}: a token vector overflows {self.dtype}; store float32")
        return rows.numpy().astype(self.dtype)


@dataclass(frozen=True)
class _Batch:
    """Texts encoded together: their positions in the window (B,), their tokens (B, L), and which tokens score.

    The tokens of a canonical batch have more rows, which are repeated ones; its mask may be shorter.
    """

    texts: np.ndarray
    tokens: Mapping[str, Tensor]
    scoring: Tensor


@contextmanager
def _evaluation_mode(model: Encodable) -> Iterator[None]:
    modules = [*model.native.modules(), *model.head.modules()]
    training = [module for module in modules if module.training]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
