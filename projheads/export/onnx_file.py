"""The complete model as ONNX: tokens in, normalised token embeddings out.

Any head works, linear or not. The tokenizer and encoding.json, which says how to make tokens and which embeddings take
part in MaxSim, are written beside model.onnx.
"""

import contextlib
import importlib.util
import json
import logging
import shutil
import string
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projheads.errors import ProjheadsError
from projheads.export.onnx_check import onnx_difference
from projheads.export.opened import Source, open_encoder
from projheads.hosts.base import EncodingSettings
from projheads.hosts.tokenizer import check_shared, known_words

__all__ = ["OnnxModel", "write_onnx"]

_LARGEST_FILE = 2**31 - 2**20  # protobuf's limit; larger weights go into a separate file


class OnnxModel(nn.Module):
    """Encoder, head and L2 normalisation as one function of tokens."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map token ids and their mask, (B, L) each, to embeddings (B, L, out_features) of L2 norm 1."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        return F.normalize(self.head(states), dim=-1)


def write_onnx(source: Source, out: Path) -> tuple[list[str], float, str]:
    """Write model.onnx in float32, the tokenizer and encoding.json, and compare the file with the model.

    Args:
        source: The model.
        out: An existing, empty folder.

    Returns:
        The programs that run it, and what :func:`projheads.export.onnx_check.onnx_difference` found.

    Raises:
        ProjheadsError: If the exporter is not installed, cannot export the encoder, or exports something else.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ProjheadsError(f"the format onnx needs {package}; pip install 'projheads[onnx]'")

    settings = source.shared_settings()
    encoder, tokenizer = open_encoder(source)
    check_shared(tokenizer, settings)
    _export(OnnxModel(encoder.float(), source.head.float()).eval(), out / "model.onnx")
    for file in sorted(source.transformer.glob("*token*.json")):
        shutil.copyfile(file, out / file.name)
    about = json.dumps(_encoding(settings, tokenizer, encoder.config), indent=2, ensure_ascii=False)
    (out / "encoding.json").write_text(about + "\n", encoding="utf-8")
    return ["onnxruntime"], *onnx_difference(source, out / "model.onnx")


def _export(model: OnnxModel, file: Path) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    tokens = torch.ones(2, 8, dtype=torch.long)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _silent(), _attention_to_nothing():
            program = torch.onnx.export(
                model,
                (tokens, torch.ones_like(tokens)),
                dynamo=True,
                input_names=["input_ids", "attention_mask"],
                output_names=["token_embeddings"],
                dynamic_shapes=(free, free),
                verbose=False,
            )
    except Exception as error:  # of many kinds; all mean that it cannot export this model
        reason = " ".join(str(error).split())[:200]
        raise ProjheadsError(f"{type(model.encoder).__name__}: cannot be exported to ONNX ({reason})") from error
    if program is not None:
        program.save(str(file), external_data=size > _LARGEST_FILE)


def _encoding(settings: EncodingSettings, tokenizer: Any, config: Any) -> dict[str, Any]:
    """Say how a text becomes tokens: truncated, prefix inserted second, queries padded with the mask token."""
    skiplist = known_words(tokenizer, string.punctuation if settings.skiplist is None else settings.skiplist)
    return {
        "query_length": settings.query_length,
        "document_length": settings.document_length,
        "query_prefix": settings.query_prefix,
        "document_prefix": settings.document_prefix,
        "query_prefix_id": _id(tokenizer, settings.query_prefix),
        "document_prefix_id": _id(tokenizer, settings.document_prefix),
        "query_expansion": settings.query_expansion,
        "attend_to_expansion_tokens": settings.attend_to_expansion_tokens,
        "expansion_token_id": tokenizer.eos_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id,
        "pad_token_id": tokenizer.pad_token_id if config.pad_token_id is None else config.pad_token_id,
        "skiplist": skiplist,
        "skiplist_ids": tokenizer.convert_tokens_to_ids(skiplist),
        "input_names": ["input_ids", "attention_mask"],
        "output_names": ["token_embeddings"],
    }


def _id(tokenizer: Any, prefix: str) -> int | None:
    return int(tokenizer.convert_tokens_to_ids(prefix)) if prefix else None


@contextlib.contextmanager
def _attention_to_nothing() -> Iterator[None]:
    """Export what torch computes for a token that attends to nothing: zeros, where ONNX attends to everything.

    An expansion token beyond the local window of the last attended token is such a token.
    """
    functions: Any = F
    attend = functions.scaled_dot_product_attention

    def exported(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        attended: Tensor = attend(query, key, value, attn_mask=attn_mask, **options)
        if attn_mask is None or attn_mask.dtype != torch.bool:
            return attended
        return torch.where(attn_mask.any(dim=-1, keepdim=True), attended, torch.zeros_like(attended))

    functions.scaled_dot_product_attention = exported
    try:
        yield
    finally:
        functions.scaled_dot_product_attention = attend


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter's messages off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
