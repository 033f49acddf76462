"""Pluggable projection heads for ColBERT models.

Public names are imported on first use, so ``import projheads`` does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from projheads.build import build_head
    from projheads.cost import HeadCost, head_cost, head_warnings
    from projheads.errors import ProjheadsError
    from projheads.export import export_model, fold_model, soup_models, swap_model
    from projheads.folding import fold, folds
    from projheads.head import Head
    from projheads.init import list_inits, register_init
    from projheads.linear_fit import Linearised, linearise
    from projheads.presets import list_presets
    from projheads.registry import check_spec, head_class, head_options, list_heads, register_head
    from projheads.reparameterization import reparameterize
    from projheads.scoring import maxsim, maxsim_nway
    from projheads.spec import HeadSpec
    from projheads.swap import swap_head
    from projheads.testing import check_head

__version__ = "0.1.0"

__all__ = [
    "Head",
    "HeadCost",
    "HeadSpec",
    "Linearised",
    "ProjheadsError",
    "build_head",
    "check_head",
    "check_spec",
    "export_model",
    "fold",
    "fold_model",
    "folds",
    "head_class",
    "head_cost",
    "head_options",
    "head_warnings",
    "linearise",
    "list_heads",
    "list_inits",
    "list_presets",
    "maxsim",
    "maxsim_nway",
    "register_head",
    "register_init",
    "reparameterize",
    "soup_models",
    "swap_head",
    "swap_model",
]

_MODULES = {
    "build": ["build_head"],
    "cost": ["HeadCost", "head_cost", "head_warnings"],
    "errors": ["ProjheadsError"],
    "export": ["export_model", "fold_model", "soup_models", "swap_model"],
    "folding": ["fold", "folds"],
    "head": ["Head"],
    "init": ["list_inits", "register_init"],
    "linear_fit": ["Linearised", "linearise"],
    "presets": ["list_presets"],
    "registry": ["check_spec", "head_class", "head_options", "list_heads", "register_head"],
    "reparameterization": ["reparameterize"],
    "scoring": ["maxsim", "maxsim_nway"],
    "spec": ["HeadSpec"],
    "swap": ["swap_head"],
    "testing": ["check_head"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
