"""Low-rank adapters (LoRA, Hu et al., 2021, arXiv:2106.09685) on a backbone, through peft."""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from experiment.config.train_section import LoraSection
from experiment.seeds import torch_generator
from projheads.errors import ProjheadsError
from projheads.export.describe_card import hub_name
from projheads.hosts.backbone import resolve_backbone, transformer_subfolder
from projheads.hosts.base import OpenOptions
from projheads.hosts.quiet import quiet
from projheads.init import isolated_random_state

__all__ = ["Adapter", "add_lora", "check_peft", "merge_lora", "save_adapter", "take_lora"]


@dataclass(frozen=True)
class Adapter:
    """The adapters of a transformer, taken off it.

    Attributes:
        transformer: The transformer without them.
        config: Their configuration, of peft.
        weights: Their matrices by name.
    """

    transformer: Any
    config: Any
    weights: Mapping[str, Tensor]


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
    for module in _take_off(transformer):
        module.merge(safe_merge=True)


def take_lora(transformer: Any) -> Adapter:
    """Take the adapters off a transformer, in place, which then is the plain one that they were added to."""
    weights = {name: tensor.detach() for name, tensor in transformer.named_parameters() if "lora_" in name}
    config = transformer.peft_config["default"]
    for _ in _take_off(transformer):
        pass
    return Adapter(transformer, config, weights)


def _take_off(transformer: Any) -> Iterator[Any]:
    """Yield each adapter, and replace it by its matrix afterwards."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(transformer.named_modules()):
        if isinstance(module, BaseTunerLayer):
            yield module
            transformer.set_submodule(name, module.get_base_layer())
    if hasattr(transformer, "peft_config"):
        del transformer.peft_config


def save_adapter(adapter: Adapter, folder: Path, backbone: str, options: OpenOptions) -> None:
    """Replace the backbone's weights in a model folder by an adapter in peft's format.

    It also has the rows of the embedding table that the backbone lacks, those of the prefix tokens.

    Args:
        adapter: The adapter.
        folder: The folder, to which the model was saved without it.
        backbone: The backbone that it was trained on, a folder or a hub name.
        options: How the backbone is opened.
    """
    from peft import get_peft_model
    from transformers import AutoModel

    base = resolve_backbone(backbone, options)
    opened = {"trust_remote_code": options.trust_remote_code, "local_files_only": True, "dtype": "float32"}
    with quiet():
        original = AutoModel.from_pretrained(base / transformer_subfolder(base), **opened)
    before = original.get_input_embeddings().weight.detach()
    table = adapter.transformer.get_input_embeddings()
    after = table.weight.detach().cpu()
    kept = min(len(before), len(after))
    changed = [*(before[:kept] != after[:kept]).any(dim=1).nonzero().flatten().tolist(), *range(kept, len(after))]
    name = next(name for name, module in adapter.transformer.named_modules() if module is table)
    rows = {name.rpartition(".")[2]: changed} if changed else None
    # peft names the base model after this attribute, which is a folder of this machine's cache for one of the hub.
    adapter.transformer.name_or_path = hub_name(backbone) or str(Path(backbone).expanduser().absolute())
    config = replace(
        adapter.config,
        base_model_name_or_path=adapter.transformer.name_or_path,
        revision=options.revision,
        trainable_token_indices=rows,
    )
    model = get_peft_model(adapter.transformer, config)
    model.load_state_dict({f"base_model.model.{key}": tensor for key, tensor in adapter.weights.items()}, strict=False)
    inside = folder / transformer_subfolder(folder)
    for file in inside.glob("model*.safetensors*"):
        file.unlink()
    model.save_pretrained(str(inside), save_embedding_layers=False)  # the new rows are enough
    (inside / "README.md").unlink(missing_ok=True)  # peft's own card
    model.unload()
