"""sentence-transformers >= 6: a registered head as a module of a ``MultiVectorEncoder``.

The dotted path of :class:`Projection` is written into users' checkpoints: it never changes. Outside this adapter such a
checkpoint opens with ``MultiVectorEncoder(path, trust_remote_code=True)``, for the host imports no class of another
package without that.
"""

import json
import string
from collections.abc import Iterator, Mapping, Sequence
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
from projheads.hosts.backbone import (
    backbone_width,
    cannot_open,
    check_lengths,
    resolve_backbone,
    transformer_subfolder,
)
from projheads.hosts.base import EncodingSettings, HostModel
from projheads.hosts.checkpoint import read_modules
from projheads.hosts.common import HeadModule, as_head, forget_last_call, quiet, seeded
from projheads.hosts.dense_chain import from_dense_chain
from projheads.hosts.files import has_projection, share_backbone
from projheads.hosts.layout import OUR_PROJECTIONS, projections, read_head, read_settings, written_by
from projheads.hosts.projection import FoundProjection, in_sequence

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
        """Return the width of a token embedding, which the host asks its modules for."""
        return self.out_features


class SentenceTransformersModel:
    """A ``MultiVectorEncoder`` as :class:`~projheads.hosts.base.HostModel`; new ones are in evaluation mode."""

    host = "sentence-transformers"

    def __init__(self, native: MultiVectorEncoder) -> None:
        self.native = native
        projections = [module for module in native if isinstance(module, Projection | Dense)]
        known = Transformer | Projection | Dense | MultiVectorMask | Normalize
        unknown = [type(module).__name__ for module in native if not isinstance(module, known)]
        if unknown or not projections:
            what = f"a module {unknown[0]}, which is none of the kinds known here" if unknown else "no projection head"
            raise ProjheadsError(f"this MultiVectorEncoder has {what}")
        self.head = as_head(projections)
        self.in_features: int = projections[0].in_features
        self.out_features: int = projections[-1].out_features
        native.eval()

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""
        device: torch.device = self.native.device
        return device

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

    def scoring_mask(self, tokens: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """Return the bool mask (B, L) of the tokens that ``encode`` keeps."""
        mask = tokens["attention_mask"].bool()
        for module in self.native:
            if isinstance(module, MultiVectorMask):
                mask = module({**tokens, "attention_mask": mask}, task=_task(is_query))["attention_mask"]
        return mask

    def token_states(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the backbone's output (B, L, in_features)."""
        features = {name: tensor.to(self.device) for name, tensor in tokens.items()}
        states: Tensor = self.native[0](features)["token_embeddings"]
        return states

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters in front of the head."""
        parameters: Iterator[nn.Parameter] = self.native[0].parameters()
        return parameters

    def encode(self, texts: Sequence[str], *, is_query: bool, batch_size: int = 32) -> list[np.ndarray]:
        """Run the host's ``encode``: one float32 array (L_i, out_features) a text, rows of L2 norm 1."""
        if not texts:
            return []
        host_encode = self.native.encode_query if is_query else self.native.encode_document
        encoded: list[np.ndarray] = host_encode(
            list(texts), batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return encoded

    def save(self, path: Path, *, backbone_from: Path | None = None) -> None:
        """Write a folder that ``MultiVectorEncoder(path, trust_remote_code=True)`` opens.

        The same weights and settings give the same bytes.

        Args:
            path: The folder to write.
            backbone_from: A folder of an earlier save. Where its backbone has the same bytes, the files are shared
                with it (hard links), so that they take no room on the disk.
        """
        forget_last_call(self.native.tokenizer)
        with quiet():
            self.native.save(str(path), create_model_card=False)
        if backbone_from is not None:
            share_backbone(path, backbone_from)


def create(
    backbone: str, head: Head, settings: EncodingSettings, *, device: str | torch.device = "cpu", seed: int = 0
) -> SentenceTransformersModel:
    """Make a model in float32 from a bare backbone and a head.

    Args:
        backbone: A folder (of transformers, or of sentence-transformers, whose first module is taken) or a hub name.
        head: The head; it becomes part of the model, it is not copied.
        settings: How texts become tokens.
        device: Where the model goes.
        seed: What the weights that the backbone lacks, such as the embeddings of new prefix tokens, are drawn from.

    Raises:
        ProjheadsError: If the backbone can not be opened, or the head or the lengths do not fit it.
    """
    folder = resolve_backbone(backbone, revision=settings.revision)
    try:
        with quiet(), seeded(seed):
            transformer = Transformer.load(
                str(folder),
                subfolder=transformer_subfolder(folder),
                trust_remote_code=settings.trust_remote_code,
                model_kwargs={"dtype": torch.float32},
                local_files_only=True,
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise cannot_open("backbone", backbone, error) from error
    check_lengths(settings, transformer.auto_model.config)
    with quiet(), seeded(seed):
        return _make(transformer, head, settings, device)


def _make(
    transformer: Transformer, head: Head, settings: EncodingSettings, device: str | torch.device
) -> SentenceTransformersModel:
    _add_prefix_tokens(transformer, [settings.query_prefix, settings.document_prefix])
    transformer.query_length = None if settings.query_expansion else settings.query_length
    transformer.document_length = settings.document_length
    transformer.query_expansion = _expansion(settings) if settings.query_expansion else None
    skiplist = string.punctuation if settings.skiplist is None else settings.skiplist
    return _assemble(
        [transformer, Projection(head), MultiVectorMask(list(skiplist)), Normalize("token_embeddings")],
        device,
        {"query": settings.query_prefix, "document": settings.document_prefix},
    )


def load(
    path: str, *, device: str | torch.device = "cpu", trust_remote_code: bool = False
) -> SentenceTransformersModel:
    """Open a checkpoint of either host, with a head of ours or with a host's own chain of ``Dense``.

    Args:
        path: A folder or a hub name.
        device: Where the model goes.
        trust_remote_code: Whether code that comes with the checkpoint may run. A head of ours does not need it here.

    Raises:
        ProjheadsError: If it can not be opened or has no projection.
    """
    folder = resolve_backbone(path)
    if not has_projection(folder):
        raise ProjheadsError(f'checkpoint "{path}": has no projection head; make a model of it with create')
    try:
        if written_by(folder) == "pylate" and projections(folder)[0].type in OUR_PROJECTIONS:
            return _load_pylates(folder, device, trust_remote_code)
        with quiet(), seeded(0):
            native = _load_own(folder, trust_remote_code) or MultiVectorEncoder(
                str(folder), device="cpu", trust_remote_code=trust_remote_code, local_files_only=True
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise cannot_open("checkpoint", path, error) from error
    return SentenceTransformersModel(native.to(device))


def replace_head(model: HostModel, head: Head) -> SentenceTransformersModel:
    """Return a model with another head that shares the backbone and the settings of ``model``, which stays as it is.

    Raises:
        ProjheadsError: If the model is not of this host or the head does not fit its backbone.
    """
    native = model.native
    if not isinstance(native, MultiVectorEncoder):
        raise ProjheadsError(f'replace_head: the model is of the host "{model.host}", not of "sentence-transformers"')
    kept = [module for module in native if not isinstance(module, Projection | Dense)]
    return _assemble([kept[0], Projection(head), *kept[1:]], model.device, native.prompts)


def find_projection(model: nn.Module) -> FoundProjection | None:
    """Find the projection of a MultiVectorEncoder in memory; None where it is not one or has none."""
    if not isinstance(model, MultiVectorEncoder):
        return None
    return in_sequence(model, [module for module in model if _projects(module)], Projection)


def _projects(module: nn.Module) -> bool:
    if isinstance(module, Dense):
        return bool(module.module_input_name == module.module_output_name == "token_embeddings")
    return isinstance(module, Projection)


def to_dense_chain(head: Head) -> list[Dense]:
    """Write a head as a chain of the host's own ``Dense`` modules, which share its parameters.

    Raises:
        ProjheadsError: If a chain does not compute what the head computes at inference.
    """
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
    """Make each prefix one token, as PyLate does; the tokenizer would cut "[Q] " into four pieces."""
    tokens = [AddedToken(prefix, normalized=False, special=True) for prefix in prefixes if prefix]
    # Twice, as PyLate: tables that are wider than the vocabulary shrink first, so new tokens get new rows.
    transformer.model.resize_token_embeddings(len(transformer.tokenizer))
    transformer.tokenizer.add_tokens(tokens)
    transformer.model.resize_token_embeddings(len(transformer.tokenizer))


def _assemble(
    modules: Sequence[Any], device: str | torch.device, prompts: Mapping[str, str]
) -> SentenceTransformersModel:
    transformer, projection = modules[0], modules[1]
    width, head = transformer.get_embedding_dimension(), projection.head
    if head.in_features != width:
        raise ProjheadsError(f"head {head.spec}: has in_features={head.in_features}, the backbone's width is {width}")
    native = MultiVectorEncoder(modules=list(modules), device="cpu", prompts=dict(prompts), similarity_fn_name="maxsim")
    return SentenceTransformersModel(native.to(device))


def _load_pylates(folder: Path, device: str | torch.device, trust_remote_code: bool) -> SentenceTransformersModel:
    """Load what PyLate wrote with a head of ours; its checkpoints with its own ``Dense`` the host itself opens."""
    settings, head = read_settings(folder), read_head(folder)
    with quiet(), seeded(0):
        transformer = Transformer.load(
            str(folder),
            subfolder=transformer_subfolder(folder),
            trust_remote_code=trust_remote_code,
            local_files_only=True,
        )
        padding = transformer.auto_model.config.pad_token_id
        if padding is not None:  # PyLate saves the mask token in its place
            transformer.tokenizer.pad_token = transformer.tokenizer.convert_ids_to_tokens(padding)
        return _make(transformer, head.to(transformer.auto_model.dtype), settings, device)


def _load_own(folder: Path, trust_remote_code: bool) -> MultiVectorEncoder | None:
    """Load what :func:`create` makes, for which the host would ask to be trusted; None for other checkpoints."""
    classes = (Transformer, Projection, MultiVectorMask, Normalize)
    entries = read_modules(folder / "modules.json") if (folder / "modules.json").is_file() else []
    if [entry.type for entry in entries] != [f"{cls.__module__}.{cls.__qualname__}" for cls in classes]:
        return None
    modules = [
        cls.load(str(folder), subfolder=entry.path, local_files_only=True, trust_remote_code=trust_remote_code)
        for cls, entry in zip(classes, entries, strict=True)
    ]
    config = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    return MultiVectorEncoder(
        modules=modules, device="cpu", prompts=config["prompts"], similarity_fn_name=config["similarity_fn_name"]
    )
