"""A stock model: the backbone's files, unchanged, and a chain of ``Dense`` that every host knows.

It has PyLate's layout, which sentence-transformers >= 6 reads too, so it opens in plain PyLate and, without
trust_remote_code, in a plain MultiVectorEncoder. A model that does what only sentence-transformers supports keeps that
host's layout and opens only there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from projheads.blocks import DenseLayer
from projheads.export.folder import copy_files
from projheads.export.opened import Source
from projheads.hosts.base import EncodingSettings
from projheads.hosts.head_files import WEIGHTS_FILE, read_modules, read_object, to_save
from projheads.hosts.model_folder import MODULES_FILE, SETTINGS_FILE, TRANSFORMER_FILE, dense_config, projections

__all__ = ["pylate_settings", "write_stock"]

_PYLATES_TRANSFORMER = "sentence_transformers.models.Transformer"
_PYLATES_DENSE = "pylate.models.Dense.Dense"
_TOKENIZER_FILE = "tokenizer_config.json"
_THEIR_DENSE = "sentence_transformers.base.modules.dense.Dense"


def write_stock(source: Source, layers: Sequence[DenseLayer], out: Path) -> list[str]:
    """Write a model with these layers instead of its head.

    Args:
        source: The model that provides everything else; it is only read.
        layers: The chain.
        out: An existing, empty folder.

    Returns:
        The hosts that open it.
    """
    replaced = {entry.path for entry in projections(source.folder)}
    for folder in {source.folder, source.transformer}:
        copy_files(folder, out / folder.relative_to(source.folder), code=source.options.trust_remote_code)
    tokenizer_file = source.transformer / _TOKENIZER_FILE
    _pad_on_the_right(tokenizer_file, out / tokenizer_file.relative_to(source.folder))
    if source.settings is None:
        _keep_layout(source, replaced, layers, out)
        return ["sentence-transformers"]
    if source.written_by != "pylate":
        _write_json(out / SETTINGS_FILE, pylate_settings(source.settings))
        transformer = {"max_seq_length": source.settings.document_length, "do_lower_case": False}
        _write_json(out / source.transformer.relative_to(source.folder) / TRANSFORMER_FILE, transformer)
    modules = [_entry(0, str(source.transformer.relative_to(source.folder)).strip("."), _PYLATES_TRANSFORMER)]
    for number, layer in enumerate(layers, start=1):
        modules.append(_entry(number, f"{number}_Dense", _PYLATES_DENSE))
        _write_dense(layer, dense_config(layer), out / f"{number}_Dense")
    _write_json(out / MODULES_FILE, modules)
    return ["pylate", "sentence-transformers"]


def pylate_settings(settings: EncodingSettings) -> dict[str, Any]:
    """Write settings as PyLate does."""
    return {
        "model_type": "ColBERT",
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": settings.query_prefix,
        "document_prefix": settings.document_prefix,
        "query_length": settings.query_length,
        "document_length": settings.document_length,
        "attend_to_expansion_tokens": settings.attend_to_expansion_tokens,
        "skiplist_words": None if settings.skiplist is None else list(settings.skiplist),
        "do_query_expansion": settings.query_expansion,
    }


def _keep_layout(source: Source, replaced: set[str], layers: Sequence[DenseLayer], out: Path) -> None:
    """Replace the head by the layers and keep the other modules of sentence-transformers."""
    modules: list[dict[str, Any]] = []
    for entry in read_modules(source.folder / MODULES_FILE):
        if entry.path not in replaced or not entry.path:
            modules.append(_entry(len(modules), entry.path, entry.type))
            if entry.path and source.folder / entry.path != source.transformer:
                copy_files(source.folder / entry.path, out / entry.path, code=source.options.trust_remote_code)
            continue
        if entry.path != projections(source.folder)[0].path:
            continue
        for number, layer in enumerate(layers, start=1):
            modules.append(_entry(len(modules), f"{number}_Dense", _THEIR_DENSE))
            config = dense_config(layer) | {"module_input_name": "token_embeddings"}
            _write_dense(layer, config, out / f"{number}_Dense")
    _write_json(out / MODULES_FILE, modules)


def _pad_on_the_right(file: Path, copy: Path) -> None:
    """Let plain hosts read texts as ours do; see :func:`projheads.hosts.tokenizer.pad_on_the_right`."""
    config = read_object(file) if file.is_file() else {}
    if config.get("padding_side") == "left":
        _write_json(copy, config | {"padding_side": "right"})


def _entry(number: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": kind}


def _write_dense(layer: DenseLayer, config: dict[str, Any], folder: Path) -> None:
    folder.mkdir()
    _write_json(folder / "config.json", config)
    save_file(to_save(layer.state_dict()), folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
