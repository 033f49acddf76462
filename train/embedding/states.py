"""What is computed once from the training texts for all trials: tokens, and the input of what is trained."""

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from experiment.config import ExperimentConfig, TrainConfig
from experiment.console.progress import Progress, human_time
from experiment.disk.files import sha256_json
from experiment.encoding.backbone_layers import create_model
from experiment.encoding.tokens import Encodable, TokenStore, encode_tokens, text_key
from projheads import Head
from projheads.hosts.base import HostModel
from train.embedding.embedders import BatchEmbedder, FrozenEmbedder, LiveEmbedder
from train.embedding.layers import LAYERS_VERSION, UpperLayers, check_checkpointing, freeze_below, lower_layers
from train.embedding.lockstep import PassingStates, kept_texts
from train.embedding.tokenised import TokenisedTexts, tokenise_once
from train.lora import add_lora
from train.preparation import Preparation
from train.processes import Processes

__all__ = ["TrainingStates", "open_states", "state_keys", "states_are_cached", "transformer_of"]
__all__ += ["open_all_states", "trial_embedder", "trial_model"]


@dataclass(frozen=True)
class TrainingStates:
    """What is computed once from the training texts for all trials.

    Attributes:
        stores: For queries and documents, the input of what is trained: the backbone's output, or the input of its
            last layers; None if the full backbone is trained.
        tokens: The tokens of queries and documents; None if the backbone is frozen.
        passing: The token states of queries and documents that come and go while trials run in lockstep; None for
            the others.
    """

    stores: tuple[TokenStore, TokenStore] | None
    tokens: tuple[TokenisedTexts, TokenisedTexts] | None
    passing: tuple[PassingStates, PassingStates] | None = None


def states_are_cached(prepared: Preparation) -> bool:
    """Return whether the token states are in the cache."""
    return all((_folder(prepared.config, key) / "store.json").exists() for key in state_keys(prepared))


def open_states(prepared: Preparation, processes: Processes, progress: Progress) -> TrainingStates:
    """Compute the training states, or open them from the cache.

    Raises:
        ProjheadsError: If the backbone cannot be split between the layers that ``trainable`` names.
    """
    data, layers = prepared.data, prepared.config.train.trained_layers
    if prepared.config.train.states == "lockstep":
        return TrainingStates(None, None, _passing(prepared, progress))
    tokens = stores = None
    if layers != 0:
        tokens = (
            tokenise_once(prepared.model, data.queries, is_query=True),
            tokenise_once(prepared.model, data.documents, is_query=False),
        )
    if layers is not None:
        if layers:
            freeze_below(prepared.model, layers)
        with processes.main_first():
            stores = _stores(prepared, layers, progress)
    return TrainingStates(stores, tokens)


def open_all_states(prepared: Preparation, processes: Processes, progress: Progress) -> tuple[TrainingStates, ...]:
    """Compute or open the training states of every stage."""
    stages = (prepared.data, *prepared.later)
    return tuple(open_states(replace(prepared, data=data), processes, progress) for data in stages)


def trial_model(prepared: Preparation, head: Head, config: TrainConfig, seed: int) -> HostModel | None:
    """Return the model that a trial trains; None if it trains only the head.

    Args:
        prepared: What the trials share.
        head: The head.
        config: The trial's training section.
        seed: The trial's seed.
    """
    if config.compile:
        head.compile(dynamic=True)
    if config.trained_layers == 0:
        return None
    model = create_model(prepared.host, prepared.config.model, head, str(prepared.model.device))
    if config.trained_layers:
        freeze_below(model, config.trained_layers)
    transformer = transformer_of(model)
    if config.lora is not None:
        add_lora(transformer, config.lora, seed)
    if config.gradient_checkpointing:
        transformer.gradient_checkpointing_enable({"use_reentrant": False})
        if config.trained_layers:
            check_checkpointing(model, config.trained_layers)
    if config.compile:
        transformer.compile(dynamic=True)
    return model


def trial_embedder(
    prepared: Preparation, states: TrainingStates, model: HostModel | None, config: TrainConfig
) -> BatchEmbedder:
    """Return the embedder of a stage's texts for the model of a trial, or only for its head."""
    if states.passing is not None:
        return FrozenEmbedder(*states.passing, prepared.model.device)
    if model is None or states.tokens is None:
        if states.stores is None:
            raise ValueError("the training states hold neither tokens nor states")
        return FrozenEmbedder(*states.stores, prepared.model.device)
    upper = None
    if states.stores is not None and config.trained_layers:
        upper = UpperLayers(model, config.trained_layers, *states.stores)
    return LiveEmbedder(model, *states.tokens, upper)


def _stores(prepared: Preparation, layers: int, progress: Progress) -> tuple[TokenStore, TokenStore]:
    if layers:
        with lower_layers(prepared.model, layers) as lower:
            exact = prepared.config.train.precision == "fp32"
            return _encoded(prepared, lower, "float32" if exact else "float16", progress)
    return _encoded(prepared, prepared.model, "float16", progress)


def _encoded(
    prepared: Preparation, model: Encodable, dtype: Literal["float16", "float32"], progress: Progress
) -> tuple[TokenStore, TokenStore]:
    config, data = prepared.config, prepared.data
    stores = []
    for is_query, texts, key in zip((True, False), (data.queries, data.documents), state_keys(prepared), strict=True):
        what = f"{len(texts)} training {'queries' if is_query else 'documents'}"
        started = time.perf_counter()
        with progress.step(f"token states of {what}", len(texts)) as advance:
            store = encode_tokens(
                model,
                texts,
                is_query=is_query,
                project=False,
                precision=config.train.precision,
                dtype=dtype,
                folder=_folder(config, key),
                key=key,
                progress=advance,
            )
        limit = f"{'query' if is_query else 'document'}_length"
        limit = f"{limit}={getattr(config.model, limit)}"
        cut = f"; {store.truncated} exceed {limit} and were truncated" if store.truncated else ""
        progress.say(f"token states of {what}: {human_time(time.perf_counter() - started)}{cut}")
        stores.append(store)
    return stores[0], stores[1]


def _passing(prepared: Preparation, progress: Progress) -> tuple[PassingStates, PassingStates]:
    """Make the states that come and go; those of texts that are read again and again are stored."""
    config, data = prepared.config, prepared.data
    kept = kept_texts(data, probed=config.eval.explain is not None)
    sides = []
    for is_query, texts, indices in zip((True, False), (data.queries, data.documents), kept, strict=True):
        encode = partial(
            encode_tokens,
            prepared.model,
            is_query=is_query,
            project=False,
            precision=config.train.precision,
            canonical=True,
        )
        some = [texts[int(index)] for index in indices]
        key = sha256_json([prepared.backbone_hash, config.model.key_values(), config.train.precision, text_key(some)])
        what = f"token states of {len(some)} {'queries' if is_query else 'documents'} for validation"
        with progress.step(what, len(some)) as advance:
            store = encode(some, folder=_folder(config, key), key=key, progress=advance)
        sides.append(PassingStates.keeping(texts, encode, indices, store))
    return sides[0], sides[1]


def transformer_of(model: HostModel) -> Any:
    """Return the transformers model inside a host model."""
    return next(module for module in model.native.modules() if hasattr(module, "gradient_checkpointing_disable"))


def state_keys(prepared: Preparation) -> list[str]:
    """Return the keys of the stores of queries and documents: hashes of what they are computed from.

    There are none if the whole backbone is trained.
    """
    config, data, layers = prepared.config, prepared.data, prepared.config.train.trained_layers
    if layers is None:
        return []
    read: list[Any] = [prepared.backbone_hash, config.model.key_values(), config.train.precision]
    if layers:
        read += [f"top-{layers}", LAYERS_VERSION]
    return [sha256_json([*read, text_key(texts)]) for texts in (data.queries, data.documents)]


def _folder(config: ExperimentConfig, key: str) -> Path:
    return config.cache / "states" / key[:32]
