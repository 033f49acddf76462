"""PyLate: a registered head as the last module of a ``pylate.models.ColBERT``.

The dotted path of :class:`Projection` is written into users' checkpoints: it never changes.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
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
from projheads.hosts.backbone import (
    backbone_width,
    cannot_open,
    check_lengths,
    resolve_backbone,
    transformer_subfolder,
)
from projheads.hosts.base import EncodingSettings, HostModel
from projheads.hosts.checkpoint import read_json
from projheads.hosts.common import HeadModule, as_head, forget_last_call, quiet, seeded
from projheads.hosts.dense_chain import from_dense_chain
from projheads.hosts.files import has_projection, share_backbone
from projheads.hosts.layout import TRANSFORMER_FILE, read_head, read_settings, written_by
from projheads.hosts.projection import FoundProjection, in_sequence

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
    """A head as a PyLate module: PyLate keeps, on loading, no module that is not a ``Dense`` of its own."""

    def __init__(self, head: Head) -> None:
        nn.Module.__init__(self)  # not Dense's, which would make a matrix of its own
        self.hold(head)


class PylateModel:
    """A ``pylate.models.ColBERT`` as :class:`~projheads.hosts.base.HostModel`; new ones are in evaluation mode."""

    host = "pylate"

    def __init__(self, native: ColBERT) -> None:
        self.native = native
        projections = list(native)[1:]
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
        return dict(self.native.tokenize(list(texts), is_query=is_query))

    def count_truncated(self, texts: Sequence[str], *, is_query: bool) -> int:
        """Count the texts that lose tokens at the length limit."""
        native = self.native
        limit = native.query_length if is_query else native.document_length
        has_prefix = (native.query_prefix_id if is_query else native.document_prefix_id) is not None
        prepared = [text.strip().lower() if native[0].do_lower_case else text.strip() for text in texts]
        tokens = native.tokenizer(prepared, truncation=False, padding=False, verbose=False)["input_ids"]
        return sum(len(ids) + has_prefix > limit for ids in tokens)

    def scoring_mask(self, tokens: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """Return the bool mask (B, L) of the tokens that ``encode`` keeps."""
        attended = tokens["attention_mask"].bool()
        if is_query:
            return torch.ones_like(attended) if self.native.do_query_expansion else attended
        skipped = torch.tensor(self.native.skiplist, dtype=torch.long, device=attended.device)
        return attended & ~torch.isin(tokens["input_ids"], skipped)

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
        """Run PyLate's ``encode``: one float32 array (L_i, out_features) a text, rows of L2 norm 1."""
        if not texts:
            return []
        encoded: list[np.ndarray] = self.native.encode(
            list(texts), is_query=is_query, batch_size=batch_size, show_progress_bar=False
        )
        return encoded

    def save(self, path: Path, *, backbone_from: Path | None = None) -> None:
        """Write a folder that plain PyLate opens; the same weights and settings give the same bytes.

        Args:
            path: The folder to write.
            backbone_from: A folder of an earlier save. Where its backbone has the same bytes, the files are shared
                with it (hard links), so that they take no room on the disk.
        """
        # PyLate sets the first at every call and, on loading, the second to it: fixed here, no call shows in the bytes.
        self.native[0].max_seq_length = self.native.tokenizer.model_max_length = self.native.document_length
        forget_last_call(self.native.tokenizer)
        with quiet():
            self.native.save(str(path), create_model_card=False)
        if backbone_from is not None:
            share_backbone(path, backbone_from)


def create(
    backbone: str, head: Head, settings: EncodingSettings, *, device: str | torch.device = "cpu", seed: int = 0
) -> PylateModel:
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
            transformer = _open_transformer(folder, settings.trust_remote_code, {"dtype": torch.float32})
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise cannot_open("backbone", backbone, error) from error
    check_lengths(settings, transformer.auto_model.config)
    return _assemble(transformer, head, seed=seed, device=device, **_pylates_words(settings))


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


def load(path: str, *, device: str | torch.device = "cpu", trust_remote_code: bool = False) -> PylateModel:
    """Open a checkpoint of either host, with a head of ours or with a host's own chain of ``Dense``.

    Args:
        path: A folder or a hub name.
        device: Where the model goes.
        trust_remote_code: Whether code that comes with the checkpoint may run.

    Raises:
        ProjheadsError: If it can not be opened or has no projection.
    """
    folder = resolve_backbone(path)
    if not has_projection(folder):
        raise ProjheadsError(f'checkpoint "{path}": has no projection head; make a model of it with create')
    try:
        if written_by(folder) == "sentence-transformers":
            return _load_sentence_transformers(folder, device, trust_remote_code)
        with quiet(), seeded(0):
            native = ColBERT(str(folder), device="cpu", trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise cannot_open("checkpoint", path, error) from error
    return PylateModel(native.to(device))


def _load_sentence_transformers(folder: Path, device: str | torch.device, trust_remote_code: bool) -> PylateModel:
    settings, head = read_settings(folder), read_head(folder)
    with quiet(), seeded(0):
        transformer = _open_transformer(folder, trust_remote_code, {})
    return _assemble(transformer, head, seed=0, device=device, **_pylates_words(settings))


def _open_transformer(folder: Path, trust_remote_code: bool, model_options: dict[str, Any]) -> Transformer:
    """Open a checkpoint's transformer; its loader refuses the settings that sentence-transformers >= 6 writes."""
    subfolder = transformer_subfolder(folder)
    settings = folder / subfolder / TRANSFORMER_FILE
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    if settings.is_file() and "transformer_task" in read_json(settings):
        return Transformer(
            str(folder / subfolder), model_args=options | model_options, tokenizer_args=options, config_args=options
        )
    transformer: Transformer = Transformer.load(str(folder), subfolder=subfolder, model_kwargs=model_options, **options)
    return transformer


def replace_head(model: HostModel, head: Head) -> PylateModel:
    """Return a model with another head that shares the backbone and the settings of ``model``, which stays as it is.

    Raises:
        ProjheadsError: If the model is not PyLate's or the head does not fit its backbone.
    """
    native = model.native
    if not isinstance(native, ColBERT):
        raise ProjheadsError(f'replace_head: the model is of the host "{model.host}", not of "pylate"')
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
    width = transformer.get_word_embedding_dimension()
    if head.in_features != width:
        raise ProjheadsError(f"head {head.spec}: has in_features={head.in_features}, the backbone's width is {width}")
    modules = OrderedDict([("0", transformer), ("1", Projection(head))])
    # On the CPU, for PyLate draws the new rows of the embedding table where the table lies.
    with quiet(), seeded(seed):
        native = ColBERT(modules=modules, device="cpu", **settings)
    return PylateModel(native.to(device))


def find_projection(model: nn.Module) -> FoundProjection | None:
    """Find the projection of a PyLate model in memory; None where it is not one."""
    if not isinstance(model, ColBERT):
        return None
    return in_sequence(model, [module for module in model if isinstance(module, Dense)], Projection)


def to_dense_chain(head: Head) -> list[Dense]:
    """Write a head as a chain of PyLate's own ``Dense`` modules, which share its parameters.

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
        use_residual=layer.use_residual,
    )
