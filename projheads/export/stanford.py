"""Stanford's layout: encoder and head as one HF_ColBERT, the head as its single ``linear.weight``.

This is what colbert-ai writes: model.safetensors with the encoder's weights under its family's prefix, config.json
with the architecture HF_ColBERT, the tokenizer, and artifact.metadata with the settings. Source: colbert-ai 0.2.22,
colbert/modeling/hf_colbert.py and colbert/infra/config/settings.py.
"""

import json
import string
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from projheads.errors import ProjheadsError
from projheads.export.opened import Source, open_encoder
from projheads.hosts.base import EncodingSettings
from projheads.hosts.head_files import WEIGHTS_FILE, to_save
from projheads.hosts.tokenizer import check_shared

__all__ = ["write_stanford"]


def write_stanford(source: Source, linear: nn.Linear, out: Path) -> list[str]:
    """Write a model in Stanford's layout.

    Args:
        source: The model that provides encoder, tokenizer and settings.
        linear: The head as one layer.
        out: An existing, empty folder.

    Returns:
        The programs that open it.

    Raises:
        ProjheadsError: If the layout has no place for the bias or for something in the settings.
    """
    metadata = _metadata(source.shared_settings(), linear)
    encoder, tokenizer = open_encoder(source)
    check_shared(tokenizer, source.shared_settings())
    prefix = encoder.base_model_prefix
    linear.to(encoder.dtype)
    state = {f"{prefix}.{name}": tensor for name, tensor in encoder.state_dict().items()}
    save_file(to_save(state | {"linear.weight": linear.weight}), out / WEIGHTS_FILE, metadata={"format": "pt"})
    encoder.config.architectures = ["HF_ColBERT"]
    encoder.config.save_pretrained(out)
    if encoder.config.pad_token_id is not None:  # PyLate saves the mask token instead, which Stanford's would drop
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(encoder.config.pad_token_id)
    tokenizer.save_pretrained(out)
    text = json.dumps(metadata, indent=2, ensure_ascii=False)
    (out / "artifact.metadata").write_text(text + "\n", encoding="utf-8")
    return ["colbert-ai", "pylate", "sentence-transformers"]


def _metadata(settings: EncodingSettings, linear: nn.Linear) -> dict[str, Any]:
    skiplist = set(string.punctuation if settings.skiplist is None else settings.skiplist)
    has_no_place = {
        "a bias": linear.bias is not None,
        "queries without expansion": not settings.query_expansion,
        "queries or documents without a prefix": not (settings.query_prefix and settings.document_prefix),
        "a skiplist other than all punctuation or nothing": skiplist not in (set(), set(string.punctuation)),
    }
    for what, there in has_no_place.items():
        if there:
            raise ProjheadsError(f"Stanford's layout has no place for {what}; choose a different format")
    return {
        "query_token_id": settings.query_prefix,
        "doc_token_id": settings.document_prefix,
        "query_token": settings.query_prefix.strip(),
        "doc_token": settings.document_prefix.strip(),
        "dim": linear.out_features,
        "query_maxlen": settings.query_length,
        "doc_maxlen": settings.document_length,
        "mask_punctuation": bool(skiplist),
        "attend_to_mask_tokens": settings.attend_to_expansion_tokens,
        "similarity": "cosine",
        "interaction": "colbert",
    }
