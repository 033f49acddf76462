"""Training only the backbone's last layers: the states below them are computed once and stored."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiment.encoding.backbone_layers import transformer_layers
from experiment.encoding.tokens import TokenStore
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel
from train.embedding.tokenised import needed_tokens

__all__ = ["LAYERS_VERSION", "LowerLayers", "UpperLayers", "check_checkpointing", "freeze_below", "lower_layers"]

LAYERS_VERSION = 2
"""Increment it when a change to the code changes stored states below the last layers, or how these layers are trained.

The first version could mix up the states of several threads, and took wrong gradients from gradient checkpointing.
"""


class _ReachedError(Exception):
    """Ends a forward pass once the input of a layer is known."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def freeze_below(model: HostModel, layers: int) -> None:
    """Freeze a backbone except for its last ``layers`` layers and what follows them.

    Every parameter that the input of these layers depends on is frozen.

    Raises:
        ProjheadsError: If the backbone does not have more layers, or its output is not a function of that input.
    """
    backbone = _backbone(model)
    backbone.requires_grad_(True)
    there = len(transformer_layers(backbone))
    if layers >= there:
        raise ProjheadsError(f"train.trainable: the backbone has {there} layers; use all instead of top-{layers}")
    tokens = model.tokenize(["a few words", "some more words than those " * 60], is_query=False)
    tokens = {name: tensor.to(model.device) for name, tensor in tokens.items()}
    parameters = list(backbone.parameters())
    with torch.enable_grad(), lower_layers(model, layers) as lower:
        states = lower.token_states(tokens)
        used = torch.autograd.grad(states.sum(), parameters, allow_unused=True)
    with torch.no_grad():
        with _starting_with(backbone, layers, states):
            split = model.token_states(tokens)
        complete = model.token_states(tokens)
    if not torch.equal(split, complete):
        raise ProjheadsError("train.trainable: this backbone cannot be split between its layers; use head or all")
    for parameter, gradient in zip(parameters, used, strict=True):
        parameter.requires_grad_(gradient is None)


def check_checkpointing(model: HostModel, layers: int) -> None:
    """Check that the last layers of a backbone with gradient checkpointing can start from stored states.

    Raises:
        ProjheadsError: If it is not the layers themselves that are computed again in the backward pass.
    """
    if not hasattr(transformer_layers(_backbone(model))[-layers], "_gradient_checkpointing_func"):
        raise ProjheadsError(
            "train.gradient_checkpointing: does not work with only the last layers of this backbone; remove it, or "
            "use trainable: all"
        )


def _backbone(model: HostModel) -> nn.Module:
    return next(iter(model.native.children()))


@contextmanager
def _starting_with(backbone: nn.Module, layers: int, states: Tensor) -> Iterator[None]:
    """Skip the lower layers and feed ``states`` (B, L, width) to the first of the last ``layers``."""
    there = transformer_layers(backbone)
    everything = list(there)
    first: Any = there[-layers]
    checkpoint: Any = getattr(first, "_gradient_checkpointing_func", None)

    def replace(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ((states, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": states})

    def checkpoint_replaced(call: Any, *args: Any) -> Any:
        # The backward pass computes the layer again from these arguments, without the hook.
        args, kwargs = replace(first, args, call.keywords)
        return checkpoint(partial(call.func, *call.args, **kwargs), *args)

    hook = first.register_forward_pre_hook(replace, with_kwargs=True)
    if checkpoint:
        first._gradient_checkpointing_func = checkpoint_replaced
    del there[:-layers]
    try:
        yield
    finally:
        del there[:]
        there.extend(everything)
        if checkpoint:
            first._gradient_checkpointing_func = checkpoint
        hook.remove()


@contextmanager
def lower_layers(model: HostModel, layers: int) -> Iterator["LowerLayers"]:
    """Stop the forward passes of a model before its last layers, in any number of threads.

    Args:
        model: The model.
        layers: The number of layers that are left out.
    """

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _ReachedError(args[0] if args else kwargs["hidden_states"])

    hook = transformer_layers(_backbone(model))[-layers].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield LowerLayers(model)
    finally:
        hook.remove()


@dataclass(frozen=True)
class LowerLayers:
    """A model without its last layers, for ``encode_tokens``: its token states are the input of these layers.

    States are stored for every token that other tokens attend to, not only for those that take part in MaxSim.

    Attributes:
        model: The model, inside ``lower_layers``.
    """

    model: HostModel

    @property
    def native(self) -> nn.Module:
        """The host's own object."""
        return self.model.native

    @property
    def head(self) -> nn.Module:
        """The model's head, which is unused."""
        return self.model.head

    @property
    def in_features(self) -> int:
        """Width of the states."""
        return self.model.in_features

    @property
    def out_features(self) -> int:
        """Width of the states."""
        return self.model.in_features

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""
        return self.model.device

    def tokenize(self, texts: Sequence[str], *, is_query: bool) -> dict[str, Tensor]:
        """See ``HostModel``."""
        return self.model.tokenize(texts, is_query=is_query)

    def count_truncated(self, texts: Sequence[str], *, is_query: bool) -> int:
        """See ``HostModel``."""
        return self.model.count_truncated(texts, is_query=is_query)

    def scoring_mask(self, tokens: Mapping[str, Tensor], *, is_query: bool) -> Tensor:
        """Return the bool mask (B, L) of everything before the padding."""
        _, needed = needed_tokens(self.model, tokens, is_query=is_query)
        # Up to the last token attended to, without holes, so that stored states and tokens have the same positions.
        return needed.flip(1).int().cummax(1).values.flip(1).bool()

    def token_states(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the input (B, L, in_features) of the last layers."""
        try:
            self.model.token_states(tokens)
        except _ReachedError as reached:
            return reached.states
        raise ProjheadsError("train.trainable: this backbone does not run its layers in order; use head or all")


@dataclass(frozen=True)
class UpperLayers:
    """Runs the last layers of a model on the stored states of a batch.

    Attributes:
        model: The model that is trained.
        layers: How many of its last layers are trained.
        queries: Stored input of these layers for the queries.
        documents: The same for the documents.
    """

    model: HostModel
    layers: int
    queries: TokenStore
    documents: TokenStore

    def __call__(self, indices: np.ndarray, tokens: dict[str, Tensor], is_query: bool) -> Tensor:
        """Return the backbone's output (B, L, in_features) for texts with tokens (B, L)."""
        store = self.queries if is_query else self.documents
        device = self.model.device
        rows = [torch.from_numpy(np.array(store[int(index)])) for index in indices]
        states = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device).float()
        with _starting_with(_backbone(self.model), self.layers, states):
            return self.model.token_states(tokens)
