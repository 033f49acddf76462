"""PyLate: a registered head as the last module of a ``pylate.models.ColBERT``.

The dotted path of :class:`Projection` is written into users' models: it never changes.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pylate.models import ColBERT, Dense
from sentence_transformers.models import Transformer
from torch import Tensor, nn

from projheads.blocks import DenseLayer
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts import dense_chain
from projheads.hosts.adapters import without_adapter
from projheads.hosts.backbone import backbone_width, resolve_backbone, transformer_subfolder
from projheads.hosts.base import DEFAULT_OPTIONS, EncodingSettings, FoundProjection, HostModel, OpenOptions, StrPath
from projheads.hosts.common import HeadModule, NativeModel, check_width, in_sequence, mean_new_rows, restore_head
from projheads.hosts.dense_chain import from_dense_chain
from projheads.hosts.head_files import read_object
from projheads.hosts.model_folder import TRANSFORMER_FILE, read_head, read_settings, written_by
from projheads.hosts.opening import find_model, naming, opening
from projheads.hosts.quiet import quiet, seeded
from projheads.hosts.tokenizer import check_prefixes, check_shared, known_words, prepare_tokenizer

__all__ = [
    "Projection",
    "PylateModel",
    "backbone_width",
    "create",
    "find_projection",
    "from_dense_chain",
    "load",
    "replace_head",
    "to_dense_chain",
]


class Projection(HeadModule, Dense):  # type: ignore[misc]
    """A head as a PyLate module: PyLate loads no module that is not a ``Dense`` of its own."""

    def __init__(self, head: Head) -> None:
        nn.Module.__init__(self)  # not Dense's, which would make another matrix
        self.hold(head)


class PylateModel(NativeModel):
    """A ``pylate.models.ColBERT`` as :class:`~projheads.hosts.base.HostModel`."""

    host = "pylate"
    native: ColBERT

    def __init__(self, native: ColBERT) -> None:
        super().__init__(native, list(native)[1:], (native.query_length, native.document_length))
        # PyLate would skip the unknown token instead of the words that are not in the vocabulary.
        native.skiplist_words = known_words(native.tokenizer, native.skiplist_words)
        native.skiplist = native.tokenizer.convert_tokens_to_ids(native.skiplist_words)

    def tokenize(self, texts: Sequence[str], *, is_query: bool) -> dict[str, Tensor]:
        """Turn texts into token tensors (B, L) on the CPU: queries expanded, documents padded to the longest."""
        return dict(self.native.tokenize(list(texts), is_query=is_query))

    def count_truncated(self, texts: Sequence[str], *, is_query: bool) -> int:
        """Count the texts that lose tokens at the length limit."""
        native = self.native
        limit = native.query_length if is_query else native.document_length
        has_prefix = (native.query_prefix_id if is_query else native.document_prefix_id) is not None
        prepared = [text.strip().lower() if native[0].do_lower_case else text.strip() for text in texts]
        tokens = native.tokenizer(prepared, truncation=False, padding=False, verbose=False)["input_ids"]
        return sum(len(ids) + has_prefix > limit for ids in tokens)

    def own_layers(self, head: Head) -> list[Dense]:
        """Write a head as a chain of the host's own ``Dense``."""
        return to_dense_chain(head)

    def scoring_mask(self, tokens: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """Return the bool mask (B, L) of the tokens that ``encode`` keeps."""
        attended = tokens["attention_mask"].bool()
        if is_query:
            return torch.ones_like(attended) if self.native.do_query_expansion else attended
        skipped = torch.tensor(self.native.skiplist, dtype=torch.long, device=attended.device)
        return attended & ~torch.isin(tokens["input_ids"], skipped)

    def encode(self, texts: Sequence[str], *, is_query: bool, batch_size: int = 32) -> list[np.ndarray]:
        """Run PyLate's ``encode``: one float32 array (L_i, out_features) per text, rows of L2 norm 1."""
        if not texts:
            return []
        encoded = self.native.encode(list(texts), is_query=is_query, batch_size=batch_size, show_progress_bar=False)
        return [np.asarray(rows, np.float32) for rows in encoded]

    def save(self, path: StrPath, *, backbone_from: StrPath | None = None) -> None:
        """Write a folder that plain PyLate opens; see :meth:`NativeModel.save`."""
        # PyLate sets the first in every call and the second from it on loading; fixed here, no call affects the bytes.
        self.native[0].max_seq_length = self.native.tokenizer.model_max_length = self.native.document_length
        super().save(path, backbone_from=backbone_from)


def create(
    backbone: StrPath, head: Head, settings: EncodingSettings, *, device: str | torch.device = "cpu", seed: int = 0
) -> PylateModel:
    """Build a float32 model from a bare backbone and a head; see :meth:`~projheads.hosts.base.Host.create`."""
    folder = without_adapter(resolve_backbone(backbone, settings), settings)
    with opening("backbone", backbone, seed=seed):
        transformer = _open_transformer(folder, settings, {"dtype": torch.float32})
    with naming("backbone", backbone):
        prepare_tokenizer(transformer.tokenizer, transformer.auto_model.config, settings)
        check_prefixes(transformer.tokenizer, settings)
        return _assemble(transformer, head, seed=seed, device=device, **_pylates_words(settings))


def load(
    path: StrPath,
    options: OpenOptions = DEFAULT_OPTIONS,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> PylateModel:
    """Open a model; see :meth:`~projheads.hosts.base.Host.load`."""
    folder = find_model(path, options)
    writer, as_dtype = written_by(folder), {} if dtype is None else {"dtype": dtype}
    settings = read_settings(folder) if writer in ("stanford", "sentence-transformers") else None
    if settings is not None and writer == "sentence-transformers":
        head = read_head(folder)
        with opening("model", path):
            transformer = _open_transformer(folder, options, as_dtype)
        with naming("model", path):
            check_shared(transformer.tokenizer, settings)
            return _assemble(transformer, head, seed=0, device=device, **_pylates_words(settings))
    words = _pylates_words(settings) if settings is not None else {}
    trust = options.trust_remote_code
    with opening("model", path):
        native = ColBERT(
            str(folder), device="cpu", trust_remote_code=trust, local_files_only=True, model_kwargs=as_dtype, **words
        )
    with naming("model", path):
        if settings is not None:
            check_shared(native.tokenizer, settings)
        restore_head(find_projection(native), folder)
        return PylateModel(native.to(device))


def _pylates_words(settings: EncodingSettings) -> dict[str, Any]:
    return {
        "query_prefix": settings.query_prefix,
        "document_prefix": settings.document_prefix,
        "query_length": settings.query_length,
        "document_length": settings.document_length,
        "do_query_expansion": settings.query_expansion,
        "attend_to_expansion_tokens": settings.attend_to_expansion_tokens,
        "skiplist_words": None if settings.skiplist is None else list(settings.skiplist),
    }


def _open_transformer(folder: Path, opened: OpenOptions, model_options: dict[str, Any]) -> Transformer:
    """Open a model's transformer; its loader rejects the settings that sentence-transformers >= 6 writes."""
    subfolder = transformer_subfolder(folder)
    settings = folder / subfolder / TRANSFORMER_FILE
    options = {"trust_remote_code": opened.trust_remote_code, "local_files_only": True}
    if settings.is_file() and "transformer_task" in read_object(settings):
        return Transformer(
            str(folder / subfolder), model_args=options | model_options, tokenizer_args=options, config_args=options
        )
    transformer: Transformer = Transformer.load(str(folder), subfolder=subfolder, model_kwargs=model_options, **options)
    return transformer


def replace_head(model: HostModel, head: Head) -> PylateModel:
    """Return a model with a different head; see :meth:`~projheads.hosts.base.Host.replace_head`."""
    native = model.native
    if not isinstance(native, ColBERT):
        raise ProjheadsError(f'replace_head: the model belongs to the host "{model.host}", not to "pylate"')
    return _assemble(
        native[0],
        head,
        seed=0,
        device=model.device,
        query_prefix=native.query_prefix,
        document_prefix=native.document_prefix,
        query_length=native.query_length,
        document_length=native.document_length,
        do_query_expansion=native.do_query_expansion,
        attend_to_expansion_tokens=native.attend_to_expansion_tokens,
        skiplist_words=native.skiplist_words,
        prompts=native.prompts,
        default_prompt_name=native.default_prompt_name,
    )


def _assemble(
    transformer: Transformer, head: Head, *, seed: int, device: str | torch.device, **settings: Any
) -> PylateModel:
    check_width(head, transformer.get_word_embedding_dimension())
    modules = OrderedDict([("0", transformer), ("1", Projection(head))])
    with quiet(), seeded(seed), mean_new_rows(transformer):
        native = ColBERT(modules=modules, device="cpu", **settings)
    return PylateModel(native.to(device))


def find_projection(model: nn.Module) -> FoundProjection | None:
    """Find the projection of a PyLate model in memory; None if it is not one."""
    if not isinstance(model, ColBERT):
        return None
    return in_sequence(model, [module for module in model if isinstance(module, Dense)], Projection, to_dense_chain)


def to_dense_chain(head: Head) -> list[Dense]:
    """Write a head as a chain of PyLate's own ``Dense``; see :meth:`~projheads.hosts.base.Host.to_dense_chain`."""
    return dense_chain.to_dense_chain(head, _make_dense)


def _make_dense(layer: DenseLayer) -> Dense:
    return Dense(
        layer.in_features,
        layer.out_features,
        bias=layer.linear.bias is not None,
        activation_function=layer.activation,
        use_residual=layer.use_residual,
    )
