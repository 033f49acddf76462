"""Teachers: CrossEncoders and bi-encoders of sentence-transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from experiment.disk.models import weights_hash
from experiment.encoding.device import pick_device
from projheads.errors import ProjheadsError
from projheads.hosts.backbone import resolve_backbone
from projheads.hosts.base import DEFAULT_OPTIONS, OpenOptions
from projheads.hosts.head_files import read_object
from projheads.hosts.opening import opening

__all__ = ["Teacher", "kind_of_teacher", "open_teacher"]

Kind = Literal["CrossEncoder", "bi-encoder"]


@dataclass(frozen=True)
class Teacher:
    """A model that scores documents for queries.

    Attributes:
        name: The folder or hub name given by the user.
        kind: ``CrossEncoder`` reads query and document together, ``bi-encoder`` separately.
        hash: Content hash of its files.
        native: The sentence-transformers model.
        batch_size: Texts, or pairs of texts, per batch.
        query_prefix: What comes before each query; None for the model's own prompt.
        document_prefix: The same for documents.
    """

    name: str
    kind: Kind
    hash: str
    native: Any
    batch_size: int
    query_prefix: str | None = None
    document_prefix: str | None = None

    def about(self) -> dict[str, Any]:
        """Return what its scores depend on, as JSON."""
        prefixes = {"query_prefix": self.query_prefix, "document_prefix": self.document_prefix}
        return {"model": self.name, "kind": self.kind, "weights": self.hash, "scores": self.measure} | {
            name: prefix for name, prefix in prefixes.items() if prefix is not None
        }

    @property
    def measure(self) -> str:
        """Name of the score."""
        return "logit" if self.kind == "CrossEncoder" else f"{self.native.similarity_fn_name} similarity"

    @property
    def width(self) -> int:
        """Width of a bi-encoder's embeddings."""
        get = getattr(self.native, "get_embedding_dimension", None) or self.native.get_sentence_embedding_dimension
        return int(get())

    def encode(self, texts: Sequence[str], *, is_query: bool) -> np.ndarray:
        """Return embeddings (n, width) float32, with the prefixes or else the model's own prompts."""
        encode = self.native.encode_query if is_query else self.native.encode_document
        prompt = self.query_prefix if is_query else self.document_prefix
        found = encode(list(texts), prompt=prompt, batch_size=self.batch_size, show_progress_bar=False)
        return np.asarray(found, np.float32)

    def compare(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Return the model's own similarity of each query (n, width) with its document, (n,) float32."""
        scores = self.native.similarity_pairwise(torch.from_numpy(queries), torch.from_numpy(documents))
        return np.asarray(scores.cpu().numpy(), np.float32)

    def predict(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return the logits (n, 1) float32 of pairs of query and document, in batches of similar length."""
        before = self.query_prefix or "", self.document_prefix or ""
        pairs = [(before[0] + query, before[1] + document) for query, document in pairs]
        order = sorted(range(len(pairs)), key=lambda pair: -len(pairs[pair][0]) - len(pairs[pair][1]))
        logits = np.empty((len(pairs), 1), np.float32)
        found = self.native.predict(
            [pairs[pair] for pair in order],
            batch_size=self.batch_size,
            show_progress_bar=False,
            activation_fn=torch.nn.Identity(),
        )
        logits[order, 0] = np.asarray(found, np.float32)
        return logits


def kind_of_teacher(name: str, options: OpenOptions = DEFAULT_OPTIONS) -> tuple[Kind, Path]:
    """Return the kind of a model, as its files say, and its folder.

    Raises:
        ProjheadsError: If the model does not exist or is of a different kind.
    """
    folder = resolve_backbone(name, options)
    about = folder / "config_sentence_transformers.json"
    said = read_object(about).get("model_type") if about.is_file() else None
    if said not in (None, "SentenceTransformer", "CrossEncoder"):
        raise ProjheadsError(f'teacher "{name}": is a {said}; a teacher must be a CrossEncoder or a bi-encoder')
    config = folder / "config.json"
    architectures = read_object(config, architectures=list).get("architectures") if config.is_file() else None
    classifies = any(str(architecture).endswith("ForSequenceClassification") for architecture in architectures or ())
    return ("CrossEncoder" if said == "CrossEncoder" or (said is None and classifies) else "bi-encoder"), folder


def open_teacher(
    name: str,
    options: OpenOptions = DEFAULT_OPTIONS,
    *,
    device: str,
    batch_size: int,
    query_prefix: str | None = None,
    document_prefix: str | None = None,
) -> Teacher:
    """Open a teacher.

    Args:
        name: A folder or a hub name.
        options: The revision, and whether code that comes with the teacher may run.
        device: As in a configuration.
        batch_size: Texts, or pairs of texts, per batch.
        query_prefix: What comes before each query; None for the model's own prompt.
        document_prefix: The same for documents.

    Raises:
        ProjheadsError: If it cannot be opened, or is a CrossEncoder with more than one output.
    """
    kind, folder = kind_of_teacher(name, options)
    where = str(pick_device(device))
    with opening("teacher", name):
        from sentence_transformers import CrossEncoder, SentenceTransformer

        make = CrossEncoder if kind == "CrossEncoder" else SentenceTransformer
        trust = options.trust_remote_code
        native = make(str(folder), device=where, trust_remote_code=trust, local_files_only=True)
    if kind == "CrossEncoder" and native.num_labels != 1:
        raise ProjheadsError(
            f'teacher "{name}": has {native.num_labels} outputs; a teacher must have one, the relevance'
        )
    return Teacher(name, kind, weights_hash(folder), native, batch_size, query_prefix, document_prefix)
