"""What is computed of the training texts once for all trials: tokens, and the states in front of what is trained."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from experiment.config import ExperimentConfig
from experiment.console.progress import Progress, human_time
from experiment.disk.files import sha256_json
from experiment.encoding.tokens import TokenStore, encode_tokens, text_key
from projheads import Head
from projheads.hosts.base import HostModel
from train.embedding.embedders import Embedder, FrozenEmbedder, LiveEmbedder
from train.embedding.layers import LowerLayers, UpperLayers, freeze_below
from train.embedding.tokenised import TokenisedTexts, tokenise_once
from train.processes import Processes
from train.setting import Setting

__all__ = ["Shared", "open_states", "states_at_hand", "trial_model"]


@dataclass(frozen=True)
class Shared:
    """What is computed of the training texts once for all trials.

    Attributes:
        states: The states of the queries and of the documents in front of what is trained: the backbone's output, or
            what goes into its last layers; None where the whole backbone is trained.
        tokens: The tokens of the queries and of the documents; None where the backbone is frozen.
    """

    states: tuple[TokenStore, TokenStore] | None
    tokens: tuple[TokenisedTexts, TokenisedTexts] | None


def states_at_hand(setting: Setting) -> bool:
    """Tell whether what all trials share is in the cache already."""
    return all((_folder(setting.config, key) / "store.json").exists() for key in _keys(setting))


def open_states(setting: Setting, processes: Processes, progress: Progress) -> Shared:
    """Compute of the training texts what all trials share, or open it in the cache.

    Raises:
        ProjheadsError: If the backbone cannot be split where ``trainable`` asks for it.
    """
    data, layers = setting.data, setting.config.train.trained_layers
    tokens = states = None
    if layers != 0:
        tokens = (
            tokenise_once(setting.model, data.queries, is_query=True),
            tokenise_once(setting.model, data.documents, is_query=False),
        )
    if layers is not None:
        if layers:
            freeze_below(setting.model, layers)
        with processes.main_first():
            states = _stores(setting, layers, progress)
    return Shared(states, tokens)


def trial_model(setting: Setting, shared: Shared, head: Head) -> tuple[HostModel | None, Embedder]:
    """Return the model that a trial trains, None where that is the head alone, and what embeds its texts."""
    config = setting.config.train
    if config.compile:
        head.compile(dynamic=True)
    if shared.tokens is None:
        if shared.states is None:
            raise ValueError("nothing is shared")
        return None, FrozenEmbedder(*shared.states, setting.model.device)
    model = setting.create(head)
    upper = None
    if shared.states is not None and config.trained_layers:
        freeze_below(model, config.trained_layers)
        upper = UpperLayers(model, config.trained_layers, *shared.states)
    backbone = _transformer(model)
    if config.gradient_checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    if config.compile:
        backbone.compile(dynamic=True)
    return model, LiveEmbedder(model, *shared.tokens, upper)


def _stores(setting: Setting, layers: int, progress: Progress) -> tuple[TokenStore, TokenStore]:
    config, data = setting.config, setting.data
    model = cast(HostModel, LowerLayers(setting.model, layers)) if layers else setting.model
    stores = []
    for is_query, texts, key in zip((True, False), (data.queries, data.documents), _keys(setting), strict=True):
        what = f"{len(texts)} training {'queries' if is_query else 'documents'}"
        started = time.perf_counter()
        with progress.step(f"token states of {what}", len(texts)) as advance:
            store = encode_tokens(
                model,
                texts,
                is_query=is_query,
                project=False,
                precision=config.train.precision,
                dtype="float32" if layers and config.train.precision == "fp32" else "float16",
                folder=_folder(config, key),
                key=key,
                progress=advance,
            )
        limit = f"{'query' if is_query else 'document'}_length"
        limit = f"{limit}={getattr(config.model, limit)}"
        cut = f"; {store.truncated} are longer than {limit} and were cut" if store.truncated else ""
        progress.say(f"token states of {what}: {human_time(time.perf_counter() - started)}{cut}")
        stores.append(store)
    return stores[0], stores[1]


def _transformer(model: HostModel) -> Any:
    """Return the transformers model within a host's."""
    return next(module for module in model.native.modules() if hasattr(module, "gradient_checkpointing_disable"))


def _keys(setting: Setting) -> list[str]:
    """Name the states of the training's queries and documents by what they are computed from."""
    config, data, layers = setting.config, setting.data, setting.config.train.trained_layers
    if layers is None:
        return []
    read: list[Any] = [setting.backbone_hash, config.model.model_dump(mode="json"), config.train.precision]
    if layers:
        read.append(f"top-{layers}")
    return [sha256_json([*read, text_key(texts)]) for texts in (data.queries, data.documents)]


def _folder(config: ExperimentConfig, key: str) -> Path:
    return config.cache / "states" / key[:32]
