"""What the adapters of both hosts have in common; imports neither host."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from projheads.folding import nonlinear_part
from projheads.head import Head
from projheads.hosts.checkpoint import CONFIG_FILE, WEIGHTS_FILE, head_config, load_head, save_head
from projheads.init import isolated_random_state

__all__ = ["HeadModule", "TokenView", "as_head", "forget_last_call", "quiet", "seeded"]


class HeadModule(nn.Module):
    """What makes a host's module class one that holds a head; stands before the host's class among the bases.

    Attributes:
        head: The head that is applied to the token states.
    """

    head: Head
    in_features: int
    out_features: int

    def hold(self, head: Head) -> None:
        """Take a head; for the constructor."""
        self.head = head
        self.in_features = head.in_features
        self.out_features = head.out_features

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Replace ``token_embeddings`` (B, L, in_features) by (B, L, out_features)."""
        features["token_embeddings"] = self.head(features["token_embeddings"])
        return features

    def get_config_dict(self) -> dict[str, Any]:
        """Return what config.json holds."""
        return head_config(self.head)

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write config.json and model.safetensors; there is no other format, whatever the host asks for."""
        save_head(self.head, Path(output_path))

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Read the module from a checkpoint's folder or the hub, as both hosts call it.

        Raises:
            ProjheadsError: If the files are not exactly a head's.
        """
        host: Any = cls
        found = [
            host.load_file_path(
                model_name_or_path,
                filename=name,
                subfolder=subfolder,
                token=token,
                cache_folder=cache_folder,
                revision=revision,
                local_files_only=local_files_only,
            )
            for name in (CONFIG_FILE, WEIGHTS_FILE)
        ]
        folder = Path(found[0]).parent if found[0] else Path(model_name_or_path, subfolder)
        return cls(load_head(folder))


class TokenView(nn.Module):
    """A host's own projection module seen as a map of tensors, (..., in_features) -> (..., out_features)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Project token states."""
        projected: Tensor = self.module({"token_embeddings": x})["token_embeddings"]
        return projected

    def nonlinear_part(self) -> str | None:
        """Name the activation of the host's layer unless it is the identity; a head of ours answers for itself."""
        if isinstance(self.module, HeadModule):
            return nonlinear_part(self.module.head)
        activation = getattr(self.module, "activation_function", None)
        return None if isinstance(activation, nn.Identity) else f"the activation {type(activation).__name__}"


def as_head(projections: list[nn.Module]) -> nn.Module:
    """Return the head that the projection modules of a model hold, or see them as one."""
    if len(projections) == 1 and isinstance(projections[0], HeadModule):
        return projections[0].head
    return nn.Sequential(*map(TokenView, projections))


def forget_last_call(tokenizer: Any) -> None:
    """Clear how the last call padded and truncated, which a fast tokenizer would save with its files."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()


def seeded(seed: int) -> contextlib.AbstractContextManager[None]:
    """Let a host draw from a seed of ours; torch's global random state is put back afterwards."""
    return isolated_random_state(torch.Generator().manual_seed(seed))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the terminal, except what says that a backbone lacks weights."""
    from transformers.utils import logging as transformers_logging

    had_bars = transformers_logging.is_progress_bar_enabled()
    handlers = list(logging.getLogger("transformers").handlers)
    transformers_logging.disable_progress_bar()
    for handler in handlers:
        handler.addFilter(_matters)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_matters)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _matters(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or "MISSING" in record.getMessage()
