"""What the files of a model folder say, read without a host: who wrote it, how it reads texts, what its head is.

PyLate and sentence-transformers >= 6 store the same transformer, tokenizer and head; they differ in modules.json and
in where they keep the settings. Stanford's ColBERT keeps its projection among the transformer's weights and its
settings in artifact.metadata. Each adapter opens all three layouts.
"""

import string
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from projheads.blocks import DenseLayer
from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts.adapters import has_adapter
from projheads.hosts.base import EncodingSettings
from projheads.hosts.dense_chain import activation_class, activation_of_class, dense_layers, from_dense_chain
from projheads.hosts.head_files import (
    HEAD_FILE,
    WEIGHTS_FILE,
    ModuleEntry,
    check_inside,
    head_of_config,
    load_head,
    read_modules,
    read_object,
    read_weights,
)

__all__ = [
    "MODULES_FILE",
    "OUR_PROJECTIONS",
    "SETTINGS_FILE",
    "TRANSFORMER_FILE",
    "check_complete",
    "check_multi_vector",
    "check_projection",
    "dense_config",
    "has_named_head",
    "has_projection",
    "is_stock",
    "projections",
    "read_head",
    "read_named_head",
    "read_settings",
    "written_by",
]

METADATA_FILE = "artifact.metadata"
SETTINGS_FILE = "config_sentence_transformers.json"
TRANSFORMER_FILE = "sentence_bert_config.json"
MODULES_FILE = "modules.json"

OUR_PROJECTIONS = {
    "projheads.hosts.pylate.Projection": "pylate",
    "projheads.hosts.sentence_transformers.Projection": "sentence-transformers",
}
_OWN_MODULES = {"pylate.": "pylate", "sentence_transformers.multi_vector_encoder.": "sentence-transformers"}
"""Prefixes of the classes that only one host has."""

_MODEL_TYPES = {"ColBERT": "pylate", "MultiVectorEncoder": "sentence-transformers"}


def written_by(folder: Path) -> str | None:
    """Return who wrote a model folder: ``pylate``, ``sentence-transformers`` or ``stanford``; None if unknown."""
    if not (folder / MODULES_FILE).is_file():
        return "stanford" if "HF_ColBERT" in (_config(folder).get("architectures") or []) else None
    for entry in read_modules(folder / MODULES_FILE):
        if entry.type in OUR_PROJECTIONS:
            return OUR_PROJECTIONS[entry.type]
        for prefix, host in _OWN_MODULES.items():
            if entry.type.startswith(prefix):
                return host
    settings = read_object(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else {}
    return _MODEL_TYPES.get(str(settings.get("model_type")))


def has_projection(folder: Path) -> bool:
    """Return whether a model folder has weights after its transformer; hosts add a random layer to one without."""
    if not (folder / MODULES_FILE).is_file():
        return written_by(folder) == "stanford"
    return any(
        (folder / module.path / name).is_file()
        for module in read_modules(folder / MODULES_FILE)[1:]
        for name in (WEIGHTS_FILE, "pytorch_model.bin")
    )


def check_projection(folder: Path) -> None:
    """Check that a model folder has a projection.

    Raises:
        ProjheadsError: If it has none.
    """
    if not has_projection(folder):
        raise _no_projection(folder)


def check_multi_vector(folder: Path) -> None:
    """Check that a folder holds a multi-vector model.

    Raises:
        ProjheadsError: If it holds a bi-encoder, a bare backbone, or no model at all.
    """
    if written_by(folder):
        return
    names = []
    if not (folder / MODULES_FILE).is_file():
        what = "is a bare backbone without a projection" if _config(folder) else "has neither modules.json nor config"
    else:
        names = [module.type.rpartition(".")[2] for module in read_modules(folder / MODULES_FILE)]
        what = "is a bi-encoder, with one vector per text" if "Pooling" in names else "is not known to be multi-vector"
        what += f" ({', '.join(names)})"
    advice = "pass a multi-vector model" if not names or "Pooling" in names else "name its host with --host"
    raise ProjheadsError(f'model "{folder}": {what}; {advice}')


def check_complete(folder: Path) -> None:
    """Check that a model folder has the files that say how texts become tokens; hosts silently use defaults instead.

    Raises:
        ProjheadsError: If one is missing.
    """
    if written_by(folder) == "stanford":
        needed = [folder / METADATA_FILE]
    else:
        transformer = folder / read_modules(folder / MODULES_FILE)[0].path
        needed = [folder / SETTINGS_FILE, transformer / TRANSFORMER_FILE]
    for file in needed:
        if not file.is_file():
            raise ProjheadsError(f"{file}: no such file; it says how texts become tokens, copy it from the original")


def projections(folder: Path) -> list[ModuleEntry]:
    """List the modules that project: a head of ours, or a host's chain of ``Dense``; none in Stanford's layout.

    Raises:
        ProjheadsError: If the model has no projection.
    """
    check_projection(folder)
    if written_by(folder) == "stanford":
        return []
    entries = read_modules(folder / MODULES_FILE)
    found = [entry for entry in entries if entry.type in OUR_PROJECTIONS or _is_dense(entry)]
    if not found:
        raise _no_projection(folder)
    return found


def read_head(folder: Path) -> Head:
    """Read the head of a model: ours, or the one that computes what a chain of ``Dense`` or Stanford's layer computes.

    Raises:
        ProjheadsError: If there is none, it is damaged, or no head computes what the chain computes.
    """
    entries = projections(folder)
    if not entries:
        return _read_stanfords(folder)
    if len(entries) == 1 and entries[0].type in OUR_PROJECTIONS:
        return load_head(folder / entries[0].path)
    return read_named_head(folder) or from_dense_chain([_read_dense(folder / entry.path) for entry in entries])


def read_named_head(folder: Path) -> Head | None:
    """Read the head of ours that was saved as a chain of the host's own ``Dense``; None if the chain has no name.

    Raises:
        ProjheadsError: If it is damaged, or the chain is not that head.
    """
    entries = _dense_entries(folder)
    if not has_named_head(folder):
        return None
    file = folder / entries[0].path / HEAD_FILE
    check_inside(file, folder)
    spec, widths, shapes = head_of_config(file)
    found = [_read_dense(folder / entry.path) for entry in entries]
    mistake = ProjheadsError(
        f"{file}: the layers of this folder are not those of {spec}; delete this file to open them"
    )
    if sum(tensor.numel() for tensor in shapes.values()) != sum(map(_size, found)):  # nothing larger is allocated
        raise mistake
    head = build_head(spec, *widths).to(found[0].linear.weight.dtype)
    try:
        for layer, saved in zip(dense_layers(head), found, strict=True):
            layer.load_state_dict(saved.state_dict())
            if (layer.activation_name, layer.use_residual) != (saved.activation_name, saved.use_residual):
                raise mistake
    except (ValueError, RuntimeError) as error:
        raise mistake from error
    return head


def has_named_head(folder: Path) -> bool:
    """Return whether a model folder holds a head of ours as a chain of the host's own ``Dense``; none is read."""
    entries = _dense_entries(folder)
    return bool(entries) and (folder / entries[0].path / HEAD_FILE).is_file()


def _dense_entries(folder: Path) -> list[ModuleEntry]:
    modules = read_modules(folder / MODULES_FILE) if (folder / MODULES_FILE).is_file() else []
    return [entry for entry in modules if _is_dense(entry)]


def _size(layer: DenseLayer) -> int:
    return sum(tensor.numel() for tensor in layer.state_dict().values())


def is_stock(folder: Path) -> bool:
    """Return whether a model folder consists of its host's own modules and so opens without projheads.

    That excludes an adapter: its host would open the backbone without the rows of the prefix tokens.
    """
    return not has_adapter(folder) and all(
        entry.type not in OUR_PROJECTIONS for entry in read_modules(folder / MODULES_FILE)
    )


def read_settings(folder: Path) -> EncodingSettings:
    """Read how a model turns texts into tokens, in the terms that both hosts share.

    Raises:
        ProjheadsError: If it does something that only the host that wrote it can do.
    """
    writer = written_by(folder)
    if writer == "stanford":
        return _settings_of_stanford(folder)
    return _settings_of_pylate(folder) if writer == "pylate" else _settings_of_sentence_transformers(folder)


def dense_config(layer: DenseLayer) -> dict[str, Any]:
    """Return the config.json of PyLate's ``Dense`` for a layer; sentence-transformers >= 6 reads it too."""
    return {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.linear.bias is not None,
        "activation_function": activation_class(layer.activation),
        "use_residual": layer.use_residual,
    }


def _no_projection(folder: Path) -> ProjheadsError:
    return ProjheadsError(f"{folder}: has no projection head; build a model from it with create")


def _is_dense(entry: ModuleEntry) -> bool:
    package, _, name = entry.type.partition(".")
    return package in ("pylate", "sentence_transformers") and name.rpartition(".")[2] == "Dense"


def _read_dense(folder: Path) -> DenseLayer:
    for name in ("config.json", WEIGHTS_FILE):
        check_inside(folder / name, folder)
    config, weights = read_object(folder / "config.json"), read_weights(folder / WEIGHTS_FILE)
    try:
        layer = DenseLayer(
            *_widths(weights["linear.weight"]),
            activation=activation_of_class(config["activation_function"]),
            bias="linear.bias" in weights,
            residual=bool(config.get("use_residual", False)),
        ).to(weights["linear.weight"].dtype)
        layer.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ProjheadsError(f"{folder}: is not a Dense layer of PyLate or sentence-transformers ({reason})") from error
    return layer


def _read_stanfords(folder: Path) -> Head:
    file = folder / WEIGHTS_FILE
    check_inside(file, folder)
    try:
        with safe_open(file, framework="pt") as weights:
            weight = weights.get_tensor("linear.weight")
        head = build_head("linear", *_widths(weight)).to(weight.dtype)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ProjheadsError(f"{file}: has no readable linear.weight, the projection ({error})") from error
    head.load_state_dict({"linear.weight": weight})
    return head


def _widths(weight: Tensor) -> tuple[int, int]:
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(f"linear.weight is not a matrix of floats: {tuple(weight.shape)} of {weight.dtype}")
    return weight.shape[1], weight.shape[0]


def _settings_of_stanford(folder: Path) -> EncodingSettings:
    metadata = read_object(
        folder / METADATA_FILE, query_maxlen=int, doc_maxlen=int, query_token_id=str, doc_token_id=str
    )
    default = EncodingSettings()
    return EncodingSettings(
        query_length=metadata.get("query_maxlen") or default.query_length,
        document_length=metadata.get("doc_maxlen") or default.document_length,
        query_prefix=metadata.get("query_token_id") or "[unused0]",
        document_prefix=metadata.get("doc_token_id") or "[unused1]",
        attend_to_expansion_tokens=bool(metadata.get("attend_to_mask_tokens")),
        skiplist=tuple(string.punctuation) if metadata.get("mask_punctuation", True) else (),
    )


def _settings_of_pylate(folder: Path) -> EncodingSettings:
    config = read_object(
        folder / SETTINGS_FILE,
        **dict.fromkeys(("query_length", "document_length"), int),
        **dict.fromkeys(("query_prefix", "document_prefix"), str),
        **dict.fromkeys(("do_query_expansion", "attend_to_expansion_tokens"), bool),
    )
    default = EncodingSettings()
    skiplist = _words(folder / SETTINGS_FILE, config)
    return EncodingSettings(
        query_length=config.get("query_length") or default.query_length,
        document_length=config.get("document_length") or default.document_length,
        query_prefix=_given(config.get("query_prefix"), default.query_prefix),
        document_prefix=_given(config.get("document_prefix"), default.document_prefix),
        query_expansion=_given(config.get("do_query_expansion"), default.query_expansion),
        attend_to_expansion_tokens=bool(config.get("attend_to_expansion_tokens")),
        skiplist=skiplist,
    )


def _settings_of_sentence_transformers(folder: Path) -> EncodingSettings:
    entries = read_modules(folder / MODULES_FILE)
    config = read_object(folder / SETTINGS_FILE, prompts=dict)
    transformer_file = folder / entries[0].path / TRANSFORMER_FILE
    transformer = read_object(transformer_file, query_expansion=dict, query_length=int, document_length=int)
    masks = [entry for entry in entries if entry.type.endswith(".MultiVectorMask")]
    mask_file = folder / masks[0].path / "config.json" if masks else None
    mask = read_object(mask_file) if mask_file else {}
    prompts, expansion = config.get("prompts") or {}, transformer.get("query_expansion")
    query_length = expansion.get("length") if expansion else transformer.get("query_length")
    document_length = transformer.get("document_length")
    if not all(isinstance(prompt, str) for prompt in prompts.values() if prompt):
        raise ProjheadsError(f"{folder / SETTINGS_FILE}: prompts must be texts")
    if query_length is not None and type(query_length) is not int:
        raise ProjheadsError(f"{transformer_file}: the length of query_expansion must be an integer")
    texts = sorted(set(filter(None, prompts.values())) - _added_tokens(folder / entries[0].path))
    only_theirs = {
        f'the prompt "{texts[0]}", which is not a single token' if texts else "": bool(texts),
        "a prompt that is not for queries or documents": bool(prompts.keys() - {"query", "document"}),
        f"the query expansion {expansion}": not _is_pylates(expansion),
        "no length limits": not query_length or not document_length,
        "a skiplist for queries": mask.get("skiplist_tasks", ["document"]) != ["document"],
        "keep_only_token_ids": mask.get("keep_only_token_ids") is not None,
        "token pooling": any(entry.type.endswith("TokenPooling") for entry in entries),
    }
    for what, there in only_theirs.items():
        if there:
            raise ProjheadsError(f"{folder}: has {what}, which only sentence-transformers supports; open it there")
    return EncodingSettings(
        query_length=query_length or 0,
        document_length=document_length or 0,
        query_prefix=prompts.get("query") or "",
        document_prefix=prompts.get("document") or "",
        query_expansion=bool(expansion),
        attend_to_expansion_tokens=bool(expansion and expansion.get("attend")),
        skiplist=(_words(mask_file, mask) if mask_file else None) or (),
    )


def _is_pylates(expansion: dict[str, Any] | None) -> bool:
    return not expansion or (expansion.get("strategy") == "fixed" and expansion.get("token") is None)


def _words(file: Path, config: dict[str, Any]) -> tuple[str, ...] | None:
    words = config.get("skiplist_words")
    if words is not None and not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise ProjheadsError(f"{file}: skiplist_words must be a list of words")
    return None if words is None else tuple(words)


def _added_tokens(folder: Path) -> set[str]:
    tokens = read_object(folder / "tokenizer.json", added_tokens=list).get("added_tokens") or []
    return {str(token.get("content")) for token in tokens if isinstance(token, dict)}


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _config(folder: Path) -> dict[str, Any]:
    """Return the transformer's config.json at the top of a folder, empty if there is none."""
    return read_object(folder / "config.json", architectures=list) if (folder / "config.json").is_file() else {}
