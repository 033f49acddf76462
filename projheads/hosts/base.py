"""What the rest of the program needs of a host library, and nothing more."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from projheads.head import Head

if TYPE_CHECKING:
    import numpy as np  # installed with the hosts, not with torch

__all__ = ["DEFAULT_OPTIONS", "EncodingSettings", "FoundProjection", "Host", "HostModel", "OpenOptions", "StrPath"]

StrPath: TypeAlias = str | PathLike[str]
"""A path, or a name on the hub: what every public function takes."""


@dataclass(frozen=True)
class OpenOptions:
    """How a model or backbone may be found and opened.

    Attributes:
        revision: Commit, branch or tag on the Hugging Face Hub; None for the default branch.
        trust_remote_code: Whether code that comes with the model may run. Without it, such a model is refused.
    """

    revision: str | None = None
    trust_remote_code: bool = False


DEFAULT_OPTIONS = OpenOptions()


@dataclass(frozen=True)
class EncodingSettings(OpenOptions):
    """How a host opens a backbone and turns texts into tokens.

    Attributes:
        revision: Commit, branch or tag of the backbone on the Hugging Face Hub; None for the default branch.
        trust_remote_code: Whether code that comes with the backbone may run.
        query_length: Queries are truncated to this many tokens and, with expansion, padded to it.
        document_length: Documents are truncated to this many tokens.
        query_prefix: Text before every query; it becomes a single token.
        document_prefix: Text before every document; it becomes a single token.
        query_expansion: Whether queries are padded with mask tokens that take part in MaxSim.
        attend_to_expansion_tokens: Whether the other tokens of a query attend to those mask tokens.
        skiplist: Words whose document tokens take no part in MaxSim; None for the host's default, punctuation.
    """

    query_length: int = 32
    document_length: int = 180
    query_prefix: str = "[Q] "
    document_prefix: str = "[D] "
    query_expansion: bool = True
    attend_to_expansion_tokens: bool = False
    skiplist: tuple[str, ...] | None = None


class HostModel(Protocol):
    """A multi-vector model of a host library, reduced to what training and evaluation need.

    The embedding of a text is ``normalize(head(token_states(tokens)))`` over the tokens of its ``scoring_mask``.
    Adapters return models in evaluation mode; ``native.train()`` and ``native.eval()`` switch it.

    Attributes:
        host: Name of the host library: ``"pylate"`` or ``"sentence-transformers"``.
        native: The host's own object, ``pylate.models.ColBERT`` or ``MultiVectorEncoder``.
        head: The projection head, (..., in_features) -> (..., out_features): one of ours if the model has one,
            otherwise a view of the host's own layers.
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
    """

    host: str
    native: nn.Module
    head: nn.Module
    in_features: int
    out_features: int

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""
        ...

    def tokenize(self, texts: Sequence[str], *, is_query: bool) -> dict[str, Tensor]:
        """Turn texts into token tensors (B, L) on the CPU, padded to the longest in the batch, as the host does."""
        ...

    def count_truncated(self, texts: Sequence[str], *, is_query: bool) -> int:
        """Count the texts that lose tokens at the length limit."""
        ...

    def scoring_mask(self, tokens: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """Return the bool mask (B, L) of the tokens that take part in MaxSim, the ones that ``encode`` keeps."""
        ...

    def token_states(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the backbone's output (B, L, in_features), which the head projects."""
        ...

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters before the head."""
        ...

    def encode(self, texts: Sequence[str], *, is_query: bool, batch_size: int = 32) -> "list[np.ndarray]":
        """Run the host's own ``encode``: one float32 array (L_i, out_features) per text, rows of L2 norm 1."""
        ...

    def save(self, path: StrPath, *, backbone_from: StrPath | None = None) -> None:
        """Write a folder that the plain host opens; the same weights and settings give the same bytes.

        A head that is a chain of the host's own ``Dense`` is saved as that and opens without projheads; any other head
        needs projheads to be installed.

        Args:
            path: The folder to write.
            backbone_from: An earlier save. If its backbone has the same bytes, its files are shared (hard links) and
                take no disk space.
        """
        ...


@dataclass(frozen=True)
class FoundProjection:
    """The projection of a model in memory.

    Attributes:
        head: The current projection, (..., in_features) -> (..., out_features).
        in_features: Width of the token states.
        out_features: Width of a token embedding.
        put: Replaces it by a head.
        put_linear: Replaces it by the library's own layer with the weights of a matrix, as after folding.
    """

    head: nn.Module
    in_features: int
    out_features: int
    put: Callable[[Head], None]
    put_linear: Callable[[nn.Linear], None]


class Host(Protocol):
    """The adapter of a host library. Modules satisfy it: ``projheads.hosts.pylate`` and ``.sentence_transformers``."""

    def create(
        self,
        backbone: StrPath,
        head: Head,
        settings: EncodingSettings,
        *,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> HostModel:
        """Build a float32 model from a bare backbone and a head.

        Args:
            backbone: A folder of transformers or sentence-transformers (whose first module is used), or a hub name.
            head: The head. It becomes part of the model and is not copied.
            settings: How the backbone is opened and how texts become tokens.
            device: The model's device.
            seed: Seed of the weights that the backbone lacks, such as the embeddings of new prefix tokens.

        Raises:
            ProjheadsError: If the backbone cannot be opened, or the head or the lengths do not fit it.
        """
        ...

    def load(
        self,
        path: StrPath,
        options: OpenOptions = DEFAULT_OPTIONS,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> HostModel:
        """Open a model of either host, or one in Stanford's layout, with a head of ours or the host's own layers.

        Args:
            path: A folder or a hub name.
            options: The revision, and whether code that comes with the model may run. Our own heads need no trust.
            device: The model's device.
            dtype: The data type of all weights; None for that of the saved backbone.

        Raises:
            ProjheadsError: If it cannot be opened, lacks weights, or has no projection.
        """
        ...

    def replace_head(self, model: HostModel, head: Head) -> HostModel:
        """Return a model with a different head that shares backbone and settings with ``model``, which is unchanged.

        Raises:
            ProjheadsError: If the model belongs to the other host or the head does not fit its backbone.
        """
        ...

    def backbone_width(self, backbone: StrPath, options: OpenOptions = DEFAULT_OPTIONS) -> int:
        """Return the width of a backbone's token states, read from its configuration.

        Raises:
            ProjheadsError: If the backbone cannot be found or its configuration names no width.
        """
        ...

    def find_projection(self, model: nn.Module) -> FoundProjection | None:
        """Find the projection of the host's own model in memory; None if it is not such a model or has none."""
        ...

    def to_dense_chain(self, head: Head) -> list[Any]:
        """Write a head as a chain of the host's own ``Dense`` modules, which share its parameters.

        Raises:
            ProjheadsError: If no chain computes what the head computes at inference.
        """
        ...
