"""Heads as chains of the hosts' own ``Dense`` layers, and vice versa.

``Dense`` means the same in PyLate and sentence-transformers >= 5.7, and :class:`projheads.blocks.DenseLayer` is its
twin here, down to the names of the parameters.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from projheads.blocks import DenseLayer
from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.spec import HeadSpec, OptionValue

__all__ = ["activation_class", "activation_of_class", "dense_layers", "from_dense_chain", "to_dense_chain"]

_ACTIVATIONS = {nn.Identity: "identity", nn.ReLU: "relu", nn.GELU: "gelu", nn.SiLU: "silu", nn.Tanh: "tanh"}


def dense_layers(head: Head) -> list[DenseLayer]:
    """Write a head as a chain of dense layers, which share its parameters.

    The chain is read from the head's parts and then compared with the head, so any head that is such a chain works.

    Raises:
        ProjheadsError: If no chain computes what the head computes at inference.
    """
    layers = _read_layers(head)
    if layers is None or not _same_map(head, layers):
        raise ProjheadsError(f"head {head.spec}: is not a chain of Dense layers; use fold for linear heads")
    return layers


def to_dense_chain(head: Head, make: Callable[[DenseLayer], Any]) -> list[Any]:
    """Write a head as a chain of a host's ``Dense`` modules, which share its parameters.

    Args:
        head: The head.
        make: Makes a module of a layer's form; its parameters are replaced.

    Raises:
        ProjheadsError: If no chain computes what the head computes at inference.
    """
    chain = []
    for layer in dense_layers(head):
        dense = make(layer)
        dense.linear = layer.linear
        if layer.residual is not None:
            dense.residual = layer.residual
        chain.append(dense)
    return chain


def from_dense_chain(chain: Iterable[nn.Module]) -> Head:
    """Write a chain of a host's ``Dense`` modules as a head with a copy of their weights.

    Raises:
        ProjheadsError: If no head computes what the chain computes.
    """
    modules: list[Any] = list(chain)
    if not modules or not all(
        hasattr(module, "linear") and hasattr(module, "activation_function") for module in modules
    ):
        raise ProjheadsError("a chain must consist of one or more Dense modules")
    widths = [modules[0].linear.in_features, *(module.linear.out_features for module in modules)]
    head = build_head(_spec(modules, widths), widths[0], widths[-1])
    for layer, module in zip(dense_layers(head), modules, strict=True):
        layer.load_state_dict(module.state_dict())
    weight: Tensor = modules[0].linear.weight
    return head.to(device=weight.device, dtype=weight.dtype)


def activation_class(activation: nn.Module) -> str:
    """Return how the config.json of a ``Dense`` names an activation: the path of its class in torch."""
    return f"{type(activation).__module__}.{type(activation).__qualname__}"


def activation_of_class(path: str) -> Any:
    """Return our name of the activation with this path; nothing that a model folder names is imported.

    Raises:
        ProjheadsError: If no head has this activation.
    """
    for cls, name in _ACTIVATIONS.items():
        if path in (f"{cls.__module__}.{cls.__qualname__}", f"torch.nn.{cls.__qualname__}"):
            return name
    raise ProjheadsError(f"no head has a Dense layer with the activation {path}")


def _spec(modules: Sequence[Any], widths: Sequence[int]) -> HeadSpec:
    activations = tuple(_activation_name(module.activation_function) for module in modules)
    biases = tuple(module.linear.bias is not None for module in modules)
    residuals = tuple(bool(getattr(module, "use_residual", False)) for module in modules)
    if len(modules) == 1:
        form: dict[str, OptionValue] = {"bias": True} if biases[0] else {}
        linear = HeadSpec("linear", form if activations[0] == "identity" else form | {"activation": activations[0]})
        return HeadSpec("residual", {"inner": linear}) if residuals[0] else linear
    hidden = tuple(widths[1:-1])
    options: dict[str, OptionValue] = {"depth": len(modules)}
    options["hidden_features"] = hidden[0] if len(set(hidden)) == 1 else hidden
    *between, last = activations
    if set(activations) != {"identity"}:
        options["activation"] = between[0] if last == "identity" and len(set(between)) == 1 else activations
    if any(biases):
        options["bias"] = True if all(biases) else biases
    if any(residuals):
        options["residual"] = True if all(residuals[:-1]) and not residuals[-1] else residuals
    return HeadSpec("ffn", options)


def _activation_name(activation: Any) -> Any:
    exact_gelu = not isinstance(activation, nn.GELU) or activation.approximate == "none"
    if type(activation) not in _ACTIVATIONS or not exact_gelu:
        raise ProjheadsError(f"no head has a Dense layer with the activation {activation}")
    return _ACTIVATIONS[type(activation)]


def _read_layers(module: nn.Module) -> list[DenseLayer] | None:
    """Return the dense layers that a module consists of, in order; None if it has any other part."""
    if isinstance(module, DenseLayer):
        return None if module.idle else [module]
    if isinstance(module, nn.Linear):
        return [DenseLayer.around(module)]
    if isinstance(module, nn.Identity | nn.Dropout):
        return []
    if isinstance(inner := getattr(module, "inner", None), Head):
        skip: Any = getattr(module, "skip", inner)
        return None if skip is inner else _with_skip(_read_layers(inner), skip)
    if not isinstance(module, Head | nn.Sequential | nn.ModuleList):
        return None
    layers: list[DenseLayer] = []
    for child in module.children():
        part = _read_layers(child)
        if part is not None:
            layers += part
        elif layers and type(child) in _ACTIVATIONS and _is_plain(layers[-1]):
            layers[-1] = DenseLayer.around(layers[-1].linear, activation=_activation_name(child))
        else:
            return None
    return layers


def _is_plain(layer: DenseLayer) -> bool:
    return layer.activation_name == "identity" and not layer.use_residual


def _with_skip(inner: list[DenseLayer] | None, skip: nn.Linear | None) -> list[DenseLayer] | None:
    if inner is None or len(inner) != 1 or inner[0].use_residual:
        return None
    return [DenseLayer.around(inner[0].linear, activation=inner[0].activation_name, residual=True, skip=skip)]


def _same_map(head: Head, layers: Sequence[DenseLayer]) -> bool:
    if not layers:
        return False
    weight = layers[0].linear.weight
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, head.in_features, generator=generator).to(weight)
    modes = [(module, module.training) for module in (head, *layers)]
    try:
        with torch.no_grad():
            y: Tensor = x
            for layer in layers:
                if layer.in_features != y.shape[-1]:
                    return False
                y = layer.eval()(y)
            return torch.equal(head.eval()(x), y)
    finally:
        for module, training in modes:
            module.train(training)
