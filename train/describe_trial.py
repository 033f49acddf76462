"""The model cards of trials: what a model was trained on, and how."""

from pathlib import Path

from experiment.collections.sources import default_name
from experiment.config.train_data_section import DataPart, TrainDataConfig
from experiment.disk.files import versions
from projheads import Head
from projheads.card import license_of
from projheads.export.describe_card import add_card, hub_name
from projheads.hosts.backbone import resolve_backbone
from train.preparation import Preparation
from train.trial import Trial

__all__ = ["PACKAGES", "add_trial_card", "add_untrained_card"]

PACKAGES = {
    "projheads": "projheads",
    "torch": "torch",
    "transformers": "transformers",
    "sentence-transformers": "sentence-transformers",
    "pylate": "pylate",
}
"""The packages whose versions a trial records."""


def add_trial_card(prepared: Preparation, head: Head, trial: Trial, folder: Path) -> None:
    """Write the card of a trained model into its folder."""
    config, data = trial.config, prepared.data
    rates = f"learning rate {config.optimizer.head_lr:.3g}"
    if config.trainable != "head":
        rates += f" (backbone {config.optimizer.backbone_lr:.3g})"
    saved = ", saved as an adapter" if config.lora and config.lora.save == "adapter" else ""
    adapted = f"trained by LoRA of rank {config.lora.rank}{saved}" if config.lora else "trained"
    trained = {"head": "frozen", "all": adapted}.get(config.trainable, f"{config.trainable} layers trained")
    batch = config.batch_size * config.gradient_accumulation
    lines = [
        f"Backbone: {_backbone(prepared)}, {trained}.",
        f"Data: {_all_named(config.data)}, {len(data.examples)} {data.kind}.",
        f"Loss: {config.loss.name}, over the documents of {config.batch_size} examples.",
        f"Optimiser: {config.optimizer.name}, {rates}, {config.schedule} schedule.",
        f"Steps: {trial.steps}, of {batch} examples.",
        f"Start: {prepared.config.heads.init}, seed {trial.seed}; {config.precision}.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions(PACKAGES).items())}.",
    ]
    if prepared.config.train.states == "lockstep":
        lines.insert(-1, "Token states: computed in lockstep, rounded to fp16 and not stored.")
    for stage, later in zip(config.following(), prepared.later, strict=True):
        lines.insert(-2, f"Then: {_all_named(stage.data)}, {len(later.examples)} examples, loss {stage.loss.name}.")
    _add(prepared, head, folder, lines)


def add_untrained_card(prepared: Preparation, head: Head, seed: int, folder: Path) -> None:
    """Write the card of the untrained baseline into its folder."""
    start = f"Not trained: the head is at its start ({prepared.config.heads.init}, seed {seed})."
    _add(prepared, head, folder, [f"Backbone: {_backbone(prepared)}.", start])


def _add(prepared: Preparation, head: Head, folder: Path, lines: list[str]) -> None:
    model = prepared.config.model
    add_card(
        folder,
        head,
        name="model",
        title=f"{head.spec} on {_backbone(prepared)}",
        training=lines,
        base_model=hub_name(model.backbone),
        license=license_of(resolve_backbone(model.backbone, model.settings())),
    )


def _backbone(prepared: Preparation) -> str:
    """Name the backbone without the path of a folder."""
    backbone = prepared.config.model.backbone
    return hub_name(backbone) or Path(backbone).name


def _all_named(data: TrainDataConfig) -> str:
    return " + ".join(_named(part) for part in data.parts)


def _named(data: DataPart) -> str:
    """Name the training data without the path of a folder."""
    names = []
    if data.tuples is not None:
        names.append(data.tuples if data.hub_tuples else Path(data.tuples).name)
    if data.source is not None:
        names.append(f"{data.source if ':' in data.source else default_name(data.source)} ({data.split})")
    return " over ".join(names)
