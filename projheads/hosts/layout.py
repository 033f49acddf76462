"""What the files of a checkpoint say, read without a host: who wrote it, how it reads texts, what its head is.

PyLate and sentence-transformers >= 6 lay out the same transformer, tokenizer and head; they differ in modules.json and
in where the settings stand. Each adapter opens the other's checkpoints through this module.
"""

from pathlib import Path
from typing import Any

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts.base import EncodingSettings
from projheads.hosts.checkpoint import (
    WEIGHTS_FILE,
    ModuleEntry,
    check_inside,
    load_head,
    read_json,
    read_modules,
    read_weights,
)
from projheads.hosts.dense_chain import activation_class, activation_of_class, from_dense_chain

__all__ = [
    "MODULES_FILE",
    "OUR_PROJECTIONS",
    "SETTINGS_FILE",
    "TRANSFORMER_FILE",
    "dense_config",
    "projections",
    "read_head",
    "read_settings",
    "written_by",
]

SETTINGS_FILE = "config_sentence_transformers.json"
TRANSFORMER_FILE = "sentence_bert_config.json"
MODULES_FILE = "modules.json"

OUR_PROJECTIONS = {
    "projheads.hosts.pylate.Projection": "pylate",
    "projheads.hosts.sentence_transformers.Projection": "sentence-transformers",
}
_OWN_MODULES = {"pylate.": "pylate", "sentence_transformers.multi_vector_encoder.": "sentence-transformers"}
"""How the class names of what only one host has begin."""

_MODEL_TYPES = {"ColBERT": "pylate", "MultiVectorEncoder": "sentence-transformers"}


def written_by(folder: Path) -> str | None:
    """Name the host that wrote a checkpoint; None where the files do not say, as in Stanford's layout."""
    if not (folder / MODULES_FILE).is_file():
        return None
    for entry in read_modules(folder / MODULES_FILE):
        if entry.type in OUR_PROJECTIONS:
            return OUR_PROJECTIONS[entry.type]
        for beginning, host in _OWN_MODULES.items():
            if entry.type.startswith(beginning):
                return host
    settings = read_json(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else {}
    return _MODEL_TYPES.get(str(settings.get("model_type")))


def projections(folder: Path) -> list[ModuleEntry]:
    """List the modules of a checkpoint that project: one head of ours, or a host's own chain of ``Dense``.

    Raises:
        ProjheadsError: If there is none.
    """
    if not (folder / MODULES_FILE).is_file():
        raise ProjheadsError(f"{folder}: has no modules.json; it is no checkpoint of PyLate or sentence-transformers")
    entries = read_modules(folder / MODULES_FILE)
    found = [entry for entry in entries if entry.type in OUR_PROJECTIONS or _is_dense(entry)]
    if not found:
        raise ProjheadsError(f"{folder}: has no projection head; make a model of it with create")
    return found


def read_head(folder: Path) -> Head:
    """Read the head of a checkpoint: ours, or a chain of ``Dense`` as the head that computes the same.

    Raises:
        ProjheadsError: If there is none, it is broken, or no head computes what the chain computes.
    """
    entries = projections(folder)
    if len(entries) == 1 and entries[0].type in OUR_PROJECTIONS:
        return load_head(folder / entries[0].path)
    return from_dense_chain([_read_dense(folder / entry.path) for entry in entries])


def read_settings(folder: Path) -> EncodingSettings:
    """Read how a checkpoint turns texts into tokens, in the terms that both hosts share.

    Raises:
        ProjheadsError: If it does something that only the host that wrote it can do; the line says what.
    """
    if written_by(folder) == "pylate":
        return _settings_of_pylate(folder)
    return _settings_of_sentence_transformers(folder)


def dense_config(layer: DenseLayer) -> dict[str, Any]:
    """Describe a layer as PyLate's ``Dense`` does in its config.json, which sentence-transformers >= 6 reads too."""
    return {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.linear.bias is not None,
        "activation_function": activation_class(layer.activation),
        "use_residual": layer.use_residual,
    }


def _is_dense(entry: ModuleEntry) -> bool:
    package, _, name = entry.type.partition(".")
    return package in ("pylate", "sentence_transformers") and name.rpartition(".")[2] == "Dense"


def _read_dense(folder: Path) -> DenseLayer:
    for name in ("config.json", WEIGHTS_FILE):
        check_inside(folder / name, folder)
    config, weights = read_json(folder / "config.json"), read_weights(folder / WEIGHTS_FILE)
    try:
        layer = DenseLayer(
            *reversed(weights["linear.weight"].shape),
            activation=activation_of_class(config["activation_function"]),
            bias="linear.bias" in weights,
            residual=bool(config.get("use_residual", False)),
        ).to(weights["linear.weight"].dtype)
        layer.load_state_dict(weights)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ProjheadsError(f"{folder}: is not a Dense layer of PyLate or sentence-transformers ({reason})") from error
    return layer


def _settings_of_pylate(folder: Path) -> EncodingSettings:
    config = read_json(folder / SETTINGS_FILE)
    default = EncodingSettings()
    skiplist = config.get("skiplist_words")
    return EncodingSettings(
        query_length=config.get("query_length") or default.query_length,
        document_length=config.get("document_length") or default.document_length,
        query_prefix=_given(config.get("query_prefix"), default.query_prefix),
        document_prefix=_given(config.get("document_prefix"), default.document_prefix),
        query_expansion=_given(config.get("do_query_expansion"), default.query_expansion),
        attend_to_expansion_tokens=bool(config.get("attend_to_expansion_tokens")),
        skiplist=None if skiplist is None else tuple(skiplist),
    )


def _settings_of_sentence_transformers(folder: Path) -> EncodingSettings:
    entries = read_modules(folder / MODULES_FILE)
    config = read_json(folder / SETTINGS_FILE)
    transformer = read_json(folder / entries[0].path / TRANSFORMER_FILE)
    masks = [entry for entry in entries if entry.type.endswith(".MultiVectorMask")]
    mask = read_json(folder / masks[0].path / "config.json") if masks else {}
    prompts, expansion = config.get("prompts") or {}, transformer.get("query_expansion")
    query_length = expansion["length"] if expansion else transformer.get("query_length")
    document_length = transformer.get("document_length")
    texts = sorted(set(filter(None, prompts.values())) - _added_tokens(folder / entries[0].path))
    only_theirs = {
        f'the prompt "{texts[0]}", which is no single token' if texts else "": bool(texts),
        "a prompt that is not for queries or documents": bool(prompts.keys() - {"query", "document"}),
        f"the query expansion {expansion}": not _is_pylates(expansion),
        "no length limits": not query_length or not document_length,
        "a skiplist for queries": mask.get("skiplist_tasks", ["document"]) != ["document"],
        "keep_only_token_ids": mask.get("keep_only_token_ids") is not None,
        "token pooling": any(entry.type.endswith("TokenPooling") for entry in entries),
    }
    for what, there in only_theirs.items():
        if there:
            raise ProjheadsError(f"{folder}: has {what}, which only sentence-transformers knows; open it there")
    return EncodingSettings(
        query_length=query_length,
        document_length=document_length,
        query_prefix=prompts.get("query") or "",
        document_prefix=prompts.get("document") or "",
        query_expansion=bool(expansion),
        attend_to_expansion_tokens=bool(expansion and expansion.get("attend")),
        skiplist=tuple(mask.get("skiplist_words") or ()),
    )


def _is_pylates(expansion: dict[str, Any] | None) -> bool:
    return not expansion or (expansion["strategy"] == "fixed" and expansion.get("token") is None)


def _added_tokens(folder: Path) -> set[str]:
    tokenizer = read_json(folder / "tokenizer.json")
    return {token["content"] for token in tokenizer.get("added_tokens", [])}


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value
