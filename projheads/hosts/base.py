"""What the rest of the program needs of a host library, and nothing more."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np  # the hosts bring it, torch alone does not

    from projheads.head import Head

__all__ = ["EncodingSettings", "Host", "HostModel"]


@dataclass(frozen=True)
class EncodingSettings:
    """How a host turns texts into tokens when it makes a model from a bare backbone.

    Attributes:
        query_length: Tokens a query is cut at and, with expansion, filled up to.
        document_length: Tokens a document is cut at.
        query_prefix: Text set before every query, made a token of its own.
        document_prefix: Text set before every document, made a token of its own.
        query_expansion: Whether queries are filled up with mask tokens that take part in MaxSim.
        attend_to_expansion_tokens: Whether the other tokens of a query attend to those mask tokens.
        skiplist: Words whose document tokens take no part in MaxSim; None for the host's default, punctuation.
        trust_remote_code: Whether code that comes with a backbone may run.
        revision: Commit, branch or tag of the backbone on a hub; None for its default branch.
    """

    query_length: int = 32
    document_length: int = 180
    query_prefix: str = "[Q] "
    document_prefix: str = "[D] "
    query_expansion: bool = True
    attend_to_expansion_tokens: bool = False
    skiplist: tuple[str, ...] | None = None
    trust_remote_code: bool = False
    revision: str | None = None


class HostModel(Protocol):
    """A multi-vector model of a host library, seen through what training and evaluation ask of it.

    The embedding of a text is ``normalize(head(token_states(tokens)))`` over the tokens of its ``scoring_mask``.
    An adapter gives models in evaluation mode; ``native.train()`` and ``native.eval()`` switch it.

    Attributes:
        host: Name of the host library: ``"pylate"`` or ``"sentence-transformers"``.
        native: The host's own object, ``pylate.models.ColBERT`` or ``MultiVectorEncoder``.
        head: The projection head, (..., in_features) -> (..., out_features): ours where the checkpoint holds one, else
            a view of the host's own layers.
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
        """Turn texts into token tensors (B, L) on the CPU, padded to the longest of the batch, as the host does."""
        ...

    def count_truncated(self, texts: Sequence[str], *, is_query: bool) -> int:
        """Count the texts that lose tokens at the length limit."""
        ...

    def scoring_mask(self, tokens: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """Return the bool mask (B, L) of the tokens that take part in MaxSim, as the host's own ``encode`` has it."""
        ...

    def token_states(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the backbone's output (B, L, in_features), which the head projects."""
        ...

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters in front of the head."""
        ...

    def encode(self, texts: Sequence[str], *, is_query: bool, batch_size: int = 32) -> "list[np.ndarray]":
        """Run the host's own ``encode``: one float32 array (L_i, out_features) a text, rows of L2 norm 1."""
        ...

    def save(self, path: Path, *, backbone_from: Path | None = None) -> None:
        """Write a folder that the plain host opens; the same weights and settings give the same bytes.

        Args:
            path: The folder to write.
            backbone_from: A folder of an earlier save. Where its backbone has the same bytes, the files are shared
                with it (hard links), so that they take no room on the disk.
        """
        ...


class Host(Protocol):
    """The adapter of a host library: the module that ``load_host`` returns."""

    def create(
        self, backbone: str, head: "Head", settings: EncodingSettings, *, device: str | torch.device = "cpu"
    ) -> HostModel:
        """Make a model in float32 from a bare backbone, a folder or a hub name, and a head."""
        ...

    def load(self, path: str, *, device: str | torch.device = "cpu", trust_remote_code: bool = False) -> HostModel:
        """Open a model folder of either host."""
        ...

    def replace_head(self, model: HostModel, head: "Head") -> HostModel:
        """Return a model with a different head that shares the backbone and the settings of ``model``."""
        ...

    def backbone_width(self, backbone: str, *, revision: str | None = None, trust_remote_code: bool = False) -> int:
        """Return the width of a backbone's token states without loading its weights."""
        ...
