"""What all trials of an experiment share: the pretrained backbone, the training pairs, and how a head starts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiment.config import ExperimentConfig
from experiment.disk.models import backbone_fingerprint
from experiment.encoding.device import pick_device, resolve_precision
from experiment.encoding.tokens import encode_tokens
from experiment.seeds import torch_generator
from projheads import Head, HeadSpec, build_head
from projheads.hosts import load_host
from projheads.hosts.base import HostModel
from projheads.init import SAMPLED_INITS
from projheads.registry import head_files
from train.data.examples import TrainingData
from train.start import old_head

__all__ = ["TRAINING_VERSION", "Setting", "new_head", "prepare", "start_key"]

TRAINING_VERSION = 2
"""Raise it by one when a change to the code changes what a trial's training computes."""

SAMPLE_TEXTS = 64


@dataclass(frozen=True)
class Setting:
    """What all trials of an experiment share.

    Attributes:
        config: The experiment, with the precision that ``auto`` stands for here.
        data: The training pairs.
        model: The pretrained backbone in its host; trials of a frozen backbone put their heads on it.
        backbone_hash: Content hash of the pretrained backbone.
        create: Makes the model anew, from the pretrained backbone and a head.
        replace: Puts another head on a model.
        sample: (n, in_features) token states for the initialisations that look at data; None for the others.
        old: What the backbone's own head folds into, for the initialisation ``preserve``; None for the others.
    """

    config: ExperimentConfig
    data: TrainingData
    model: HostModel
    backbone_hash: str
    create: Callable[[Head], HostModel]
    replace: Callable[[HostModel, Head], HostModel]
    sample: Tensor | None
    old: nn.Linear | None


def prepare(config: ExperimentConfig, data: TrainingData) -> Setting:
    """Load the backbone."""
    device = pick_device(config.device)
    precision = resolve_precision(config.train.precision, device)
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    host = load_host(config.model.host)

    def create(head: Head) -> HostModel:
        return host.create(config.model.backbone, head, config.model.settings(), device=str(device))

    old = old_head(config, host)
    width = host.backbone_width(config.model.backbone, config.model.settings())
    model = create(build_head(config.heads.baseline, width, config.heads.out_features))
    sample = None
    if config.heads.init in SAMPLED_INITS:
        texts = data.documents[:SAMPLE_TEXTS]
        sample = torch.tensor(encode_tokens(model, texts, is_query=False, project=False, dtype="float32").vectors)
    return Setting(config, data, model, backbone_fingerprint(model), create, host.replace_head, sample, old)


def new_head(setting: Setting, spec: HeadSpec, seed: int) -> Head:
    """Build a head as a trial starts with it: its initialisation depends on the seed and on nothing else."""
    config = setting.config
    return build_head(
        spec,
        setting.model.in_features,
        config.heads.out_features,
        init=config.heads.init,
        generator=torch_generator(seed, "initialisation"),
        sample=setting.sample,
        old=setting.old,
    )


def start_key(setting: Setting, spec: HeadSpec, seed: int) -> dict[str, Any]:
    """Name everything that a trial's model depends on before its first step."""
    config = setting.config
    start = {} if setting.old is None else {"old": [parameter.tolist() for parameter in setting.old.parameters()]}
    return (
        start
        | {
            "version": TRAINING_VERSION,
            "model": config.model.model_dump(mode="json"),
            "backbone": setting.backbone_hash,
            "out_features": config.heads.out_features,
            "init": config.heads.init,
            "sample": setting.data.hash if setting.sample is not None else None,
            "head": str(spec),
            "seed": seed,
        }
        | ({"head_files": files} if (files := head_files(spec)) else {})
    )
