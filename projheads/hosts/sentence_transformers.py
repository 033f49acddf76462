"""sentence-transformers >= 6: a registered head as a module of a ``MultiVectorEncoder``.

The dotted path of :class:`Projection` is written into users' models: it never changes. Outside this adapter such a
model opens with ``MultiVectorEncoder(path, trust_remote_code=True)``, since the host does not import classes of other
packages without it.
"""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Module, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor, nn
from transformers import AddedToken

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts import dense_chain
from projheads.hosts.adapters import without_adapter
from projheads.hosts.backbone import backbone_width, resolve_backbone, transformer_subfolder
from projheads.hosts.base import DEFAULT_OPTIONS, EncodingSettings, FoundProjection, HostModel, OpenOptions, StrPath
from projheads.hosts.common import HeadModule, NativeModel, check_width, in_sequence, mean_new_rows, restore_head
from projheads.hosts.dense_chain import from_dense_chain
from projheads.hosts.head_files import read_modules, read_object
from projheads.hosts.model_folder import (
    MODULES_FILE,
    OUR_PROJECTIONS,
    SETTINGS_FILE,
    has_named_head,
    read_head,
    read_settings,
    written_by,
)
from projheads.hosts.opening import find_model, naming, opening
from projheads.hosts.quiet import quiet, seeded
from projheads.hosts.tokenizer import check_shared, known_words, prepare_tokenizer

__all__ = [
    "Projection",
    "SentenceTransformersModel",
    "backbone_width",
    "create",
    "find_projection",
    "from_dense_chain",
    "load",
    "replace_head",
    "to_dense_chain",
]


class Projection(HeadModule, Module):  # type: ignore[misc]
    """A head as a sentence-transformers module."""

    def __init__(self, head: Head) -> None:
        nn.Module.__init__(self)
        self.hold(head)

    def get_embedding_dimension(self) -> int:
        """Return the width of a token embedding; the host calls this."""
        return self.out_features


class SentenceTransformersModel(NativeModel):
    """A ``MultiVectorEncoder`` as :class:`~projheads.hosts.base.HostModel`."""

    host = "sentence-transformers"
    native: MultiVectorEncoder

    def __init__(self, native: MultiVectorEncoder) -> None:
        projections = [module for module in native if isinstance(module, Projection | Dense)]
        known = Transformer | Projection | Dense | MultiVectorMask | Normalize
        unknown = [type(module).__name__ for module in native if not isinstance(module, known)]
        if unknown or not projections:
            what = f"a module {unknown[0]}, which is not supported" if unknown else "no projection head"
            raise ProjheadsError(f"this MultiVectorEncoder has {what}")
        expansion = native[0].query_expansion
        length = expansion["length"] if expansion else native[0].query_length
        super().__init__(native, projections, (length, native[0].document_length))
        native.to(native[0].auto_model.dtype)  # as PyLate does; mixed types would not multiply

    def tokenize(self, texts: Sequence[str], *, is_query: bool) -> dict[str, Tensor]:
        """Turn texts into token tensors (B, L) on the CPU: queries expanded, documents padded to the longest."""
        task = _task(is_query)
        features = self.native.preprocess(list(texts), prompt=self.native.prompts.get(task), task=task)
        return {name: value for name, value in features.items() if isinstance(value, Tensor)}

    def count_truncated(self, texts: Sequence[str], *, is_query: bool) -> int:
        """Count the texts that lose tokens at the length limit."""
        transformer, prefix = self.native[0], self.native.prompts.get(_task(is_query)) or ""
        limit = transformer.query_length if is_query else transformer.document_length
        if is_query and transformer.query_expansion is not None:
            limit = transformer.query_expansion["length"]
        tokens = self.native.tokenizer(
            [prefix + text for text in texts], truncation=False, padding=False, verbose=False
        )
        return sum(len(ids) > (limit or transformer.max_seq_length) for ids in tokens["input_ids"])

    def own_layers(self, head: Head) -> list[Dense]:
        """Write a head as a chain of the host's own ``Dense``."""
        return to_dense_chain(head)

    def scoring_mask(self, tokens: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """Return the bool mask (B, L) of the tokens that ``encode`` keeps."""
        mask = tokens["attention_mask"].bool()
        for module in self.native:
            if isinstance(module, MultiVectorMask):
                mask = module({**tokens, "attention_mask": mask}, task=_task(is_query))["attention_mask"]
        return mask

    def encode(self, texts: Sequence[str], *, is_query: bool, batch_size: int = 32) -> list[np.ndarray]:
        """Run the host's ``encode``: one float32 array (L_i, out_features) per text, rows of L2 norm 1."""
        if not texts:
            return []
        host_encode = self.native.encode_query if is_query else self.native.encode_document
        encoded = host_encode(list(texts), batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)
        return [np.asarray(rows, np.float32) for rows in encoded]


def create(
    backbone: StrPath, head: Head, settings: EncodingSettings, *, device: str | torch.device = "cpu", seed: int = 0
) -> SentenceTransformersModel:
    """Build a float32 model from a bare backbone and a head; see :meth:`~projheads.hosts.base.Host.create`."""
    folder = without_adapter(resolve_backbone(backbone, settings), settings)
    with opening("backbone", backbone, seed=seed):
        transformer = _open_transformer(folder, settings, model_kwargs={"dtype": torch.float32})
    check_width(head, transformer.get_embedding_dimension())
    with naming("backbone", backbone), quiet(), seeded(seed):
        prepare_tokenizer(transformer.tokenizer, transformer.auto_model.config, settings)
        return _make(transformer, [Projection(head)], settings, device)


def load(
    path: StrPath,
    options: OpenOptions = DEFAULT_OPTIONS,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> SentenceTransformersModel:
    """Open a model; see :meth:`~projheads.hosts.base.Host.load`."""
    folder = find_model(path, options)
    writer, trust = written_by(folder), options.trust_remote_code
    settings = read_settings(folder) if writer in ("stanford", "pylate") else None
    as_dtype = {} if dtype is None else {"dtype": dtype}
    if settings is not None and (writer == "stanford" or _has_our_head(folder)):
        head = read_head(folder)
        with opening("model", path):
            transformer = _open_transformer(folder, options, model_kwargs=as_dtype)
            padding = transformer.auto_model.config.pad_token_id
            if padding is not None:  # PyLate saves the mask token instead
                transformer.tokenizer.pad_token = transformer.tokenizer.convert_ids_to_tokens(padding)
            check_width(head, transformer.get_embedding_dimension())
            head = head.to(transformer.auto_model.dtype)
            chain = to_dense_chain(head) if writer == "stanford" else [Projection(head)]
        with naming("model", path):
            check_shared(transformer.tokenizer, settings)
            return _make(transformer, chain, settings, device)
    with opening("model", path):
        native = _load_own(folder, trust, as_dtype) or MultiVectorEncoder(
            str(folder), device="cpu", trust_remote_code=trust, local_files_only=True, model_kwargs=as_dtype
        )
    with naming("model", path):
        if settings is not None:
            check_shared(native.tokenizer, settings)
        restore_head(find_projection(native), folder)
        return SentenceTransformersModel(native.to(device))


def _has_our_head(folder: Path) -> bool:
    ours = any(entry.type in OUR_PROJECTIONS for entry in read_modules(folder / MODULES_FILE))
    return ours or has_named_head(folder)


def _open_transformer(folder: Path, options: OpenOptions, **more: Any) -> Transformer:
    transformer: Transformer = Transformer.load(
        str(folder),
        subfolder=transformer_subfolder(folder),
        trust_remote_code=options.trust_remote_code,
        local_files_only=True,
        **more,
    )
    return transformer


def _make(
    transformer: Transformer, head: Sequence[Any], settings: EncodingSettings, device: str | torch.device
) -> SentenceTransformersModel:
    with mean_new_rows(transformer):
        _add_prefix_tokens(transformer, [settings.query_prefix, settings.document_prefix])
    transformer.query_length = None if settings.query_expansion else settings.query_length
    transformer.document_length = settings.document_length
    transformer.query_expansion = _expansion(settings) if settings.query_expansion else None
    words = string.punctuation if settings.skiplist is None else settings.skiplist
    skiplist = known_words(transformer.tokenizer, words)
    return _assemble(
        [transformer, *head, MultiVectorMask(skiplist), Normalize("token_embeddings")],
        device,
        {"query": settings.query_prefix, "document": settings.document_prefix},
    )


def replace_head(model: HostModel, head: Head) -> SentenceTransformersModel:
    """Return a model with a different head; see :meth:`~projheads.hosts.base.Host.replace_head`."""
    native = model.native
    if not isinstance(native, MultiVectorEncoder):
        raise ProjheadsError(
            f'replace_head: the model belongs to the host "{model.host}", not to "sentence-transformers"'
        )
    kept = [module for module in native if not isinstance(module, Projection | Dense)]
    check_width(head, kept[0].get_embedding_dimension())
    return _assemble([kept[0], Projection(head), *kept[1:]], model.device, native.prompts)


def find_projection(model: nn.Module) -> FoundProjection | None:
    """Find the projection of a MultiVectorEncoder in memory; None if it is not one or has none."""
    if not isinstance(model, MultiVectorEncoder):
        return None
    return in_sequence(model, [module for module in model if _projects(module)], Projection, to_dense_chain)


def _projects(module: nn.Module) -> bool:
    if isinstance(module, Dense):
        return bool(module.module_input_name == module.module_output_name == "token_embeddings")
    return isinstance(module, Projection)


def to_dense_chain(head: Head) -> list[Dense]:
    """Write a head as a chain of the host's own ``Dense``; see :meth:`~projheads.hosts.base.Host.to_dense_chain`."""
    return dense_chain.to_dense_chain(head, _make_dense)


def _make_dense(layer: DenseLayer) -> Dense:
    return Dense(
        layer.in_features,
        layer.out_features,
        bias=layer.linear.bias is not None,
        activation_function=layer.activation,
        module_input_name="token_embeddings",
        use_residual=layer.use_residual,
    )


def _task(is_query: bool) -> str:
    return "query" if is_query else "document"


def _expansion(settings: EncodingSettings) -> dict[str, Any]:
    return {"strategy": "fixed", "attend": settings.attend_to_expansion_tokens, "length": settings.query_length}


def _add_prefix_tokens(transformer: Transformer, prefixes: Sequence[str]) -> None:
    """Make each prefix one token, as PyLate does; the tokenizer would split "[Q] " into four."""
    tokens = [AddedToken(prefix, normalized=False, special=True) for prefix in prefixes if prefix]
    # Twice, as PyLate does: tables wider than the vocabulary shrink first, so that new tokens get new rows.
    transformer.model.resize_token_embeddings(len(transformer.tokenizer))
    transformer.tokenizer.add_tokens(tokens)
    transformer.model.resize_token_embeddings(len(transformer.tokenizer))


def _assemble(
    modules: Sequence[Any], device: str | torch.device, prompts: Mapping[str, str]
) -> SentenceTransformersModel:
    native = MultiVectorEncoder(modules=list(modules), device="cpu", prompts=dict(prompts), similarity_fn_name="maxsim")
    return SentenceTransformersModel(native.to(device))


def _load_own(folder: Path, trust_remote_code: bool, model_kwargs: Mapping[str, Any]) -> MultiVectorEncoder | None:
    """Load what :func:`create` makes, for which the host would demand trust; None for other models."""
    classes = (Transformer, Projection, MultiVectorMask, Normalize)
    entries = read_modules(folder / MODULES_FILE) if (folder / MODULES_FILE).is_file() else []
    if [entry.type for entry in entries] != [f"{cls.__module__}.{cls.__qualname__}" for cls in classes]:
        return None
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code, "model_kwargs": dict(model_kwargs)}
    modules = [
        cls.load(str(folder), subfolder=entry.path, **options) for cls, entry in zip(classes, entries, strict=True)
    ]
    config = read_object(folder / SETTINGS_FILE)
    return MultiVectorEncoder(
        modules=modules, device="cpu", prompts=config["prompts"], similarity_fn_name=config["similarity_fn_name"]
    )
