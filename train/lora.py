"""Low-rank adapters (LoRA, Hu et al., 2021, arXiv:2106.09685) on a backbone, through peft."""

import importlib.util
from typing import Any

from experiment.config.train_section import LoraSection
from experiment.seeds import torch_generator
from projheads.errors import ProjheadsError
from projheads.init import isolated_random_state

__all__ = ["add_lora", "check_peft", "merge_lora"]


def check_peft() -> None:
    """Check that peft is installed.

    Raises:
        ProjheadsError: If it is not.
    """
    if importlib.util.find_spec("peft") is None:
        raise ProjheadsError("train.lora needs peft; pip install peft, or remove `lora`")


def add_lora(transformer: Any, config: LoraSection, seed: int) -> None:
    """Put an adapter beside the chosen matrices of a transformer, in place, and freeze everything else in it.

    Args:
        transformer: A model of transformers.
        config: The section ``train.lora``.
        seed: The trial's seed, from which the adapters are drawn.

    Raises:
        ProjheadsError: If the transformer has none of the matrices that ``targets`` names.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    targets: str | list[str] = "all-linear" if config.targets == ("all-linear",) else list(config.targets)
    wanted = LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=targets)
    with isolated_random_state(torch_generator(seed, "lora")):
        try:
            LoraModel(transformer, wanted, "default")
        except ValueError as error:
            raise ProjheadsError(f"train.lora.targets: {str(error).splitlines()[0]}") from None


def merge_lora(transformer: Any) -> None:
    """Add every adapter to its matrix, in place; the transformer is then a plain one that computes the same."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(transformer.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            transformer.set_submodule(name, module.get_base_layer())
    if hasattr(transformer, "peft_config"):
        del transformer.peft_config
