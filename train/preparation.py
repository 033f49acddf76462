"""What all trials of an experiment share: the pretrained backbone, the training data, and how a head starts."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiment.config import ExperimentConfig, Point, TrainConfig
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import backbone_fingerprint
from experiment.encoding.backbone_layers import create_model
from experiment.encoding.device import pick_device, resolve_precision
from experiment.encoding.tokens import encode_tokens
from experiment.seeds import torch_generator
from projheads import Head, HeadSpec, ProjheadsError, build_head, fold
from projheads.hosts import load_host
from projheads.hosts.base import Host, HostModel
from projheads.init import find_init
from projheads.matched import MatchedProducts, matched_products
from projheads.registry import head_files
from train.data.examples import TrainingData, load_training_data
from train.lora import check_peft
from train.start import old_head

__all__ = [
    "TRAINING_VERSION",
    "Preparation",
    "check_starts",
    "new_head",
    "own_start",
    "prepare",
    "start_group",
    "start_key",
]

TRAINING_VERSION = 3
"""Increment it when a change to the code changes the result of training a trial."""

SAMPLE_TEXTS = 64
MATCHED_PAIRS = 512


@dataclass(frozen=True)
class Preparation:
    """What all trials of an experiment share.

    Attributes:
        config: The experiment, with the precision ``auto`` resolved.
        data: The training data.
        host: The adapter of the host library.
        model: The pretrained backbone in its host, with an untrained head; trials with a frozen backbone replace it.
        backbone_hash: Content hash of the pretrained backbone.
        sample: (n, in_features) token states for initialisations that depend on data; None for the others.
        point: The point of the experiment's axes; without values if it has none.
        old: The backbone's own head, for the initialisations ``preserve`` and ``convert``; None for the others.
        later: The training data of the stages that follow.
        matches: Products of matched token states, for initialisations from training pairs; None for the others.
    """

    config: ExperimentConfig
    point: Point
    data: TrainingData
    host: Host
    model: HostModel
    backbone_hash: str
    sample: Tensor | None
    old: nn.Module | None
    later: tuple[TrainingData, ...] = ()
    matches: MatchedProducts | None = None

    def stages(self, config: TrainConfig) -> list[tuple[TrainConfig, TrainingData]]:
        """List the stages of a trial with this training section: the settings and the data of each."""
        return list(zip((config, *config.following()), (self.data, *self.later), strict=True))


def prepare(config: ExperimentConfig, data: TrainingData, point: Point | None = None) -> Preparation:
    """Load the backbone and whatever the initialisation needs.

    Args:
        config: The experiment, at one point of its axes.
        data: Its training data.
        point: That point; None without axes.

    Raises:
        ProjheadsError: If the backbone cannot be opened, or the initialisation cannot start from it.
    """
    if config.train.lora is not None:
        check_peft()
    device = pick_device(config.device)
    point = point or Point({}, config.train)
    precision = _precision(config, point, device)
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    host, backbone = load_host(config.model.host), config.model
    old = old_head(config, host)
    width = host.backbone_width(backbone.backbone, backbone.settings())
    head = build_head(config.heads.baseline, width, config.heads.out_features)
    model = create_model(host, backbone, head, str(device))
    sample = None
    if find_init(config.heads.init).needs_sample:
        texts = data.documents[:SAMPLE_TEXTS]
        sample = torch.tensor(encode_tokens(model, texts, is_query=False, project=False, dtype="float32").vectors)
    matches = _matches(model, data) if find_init(config.heads.init).needs_matches else None
    return Preparation(
        config,
        point,
        data,
        host,
        model,
        backbone_fingerprint(model),
        sample,
        old,
        tuple(load_training_data(config.model_copy(update={"train": stage})) for stage in config.train.following()),
        matches,
    )


def _matches(model: HostModel, data: TrainingData) -> MatchedProducts:
    """Match the token states of the first training pairs."""
    pairs = data.examples[:MATCHED_PAIRS, :2]
    sides = []
    for is_query, texts, column in ((True, data.queries, pairs[:, 0]), (False, data.documents, pairs[:, 1])):
        chosen = [texts[int(index)] for index in column]
        store = encode_tokens(model, chosen, is_query=is_query, project=False, dtype="float32")
        sides.append([torch.tensor(store[number]) for number in range(len(chosen))])
    return matched_products(*sides)


def new_head(prepared: Preparation, spec: HeadSpec, seed: int) -> Head:
    """Build a head as a trial starts with it; its initialisation depends only on the seed.

    Raises:
        ProjheadsError: If the head, the backbone or the training texts do not allow that start.
    """
    heads = prepared.config.heads
    init = find_init(heads.init)
    fallback = init.fallback
    if fallback is None:
        try:
            return _build(prepared, spec, seed, heads.init, prepared.old)
        except ProjheadsError as error:
            if not init.takes_map or init.needs_old:
                raise
            raise ProjheadsError(f"{error}; set heads.init: torch") from None
    baseline = _build(prepared, heads.baseline, seed, fallback)
    if spec == heads.baseline:
        return baseline
    try:
        return _build(prepared, spec, seed, heads.init, fold(baseline))
    except ProjheadsError:
        return _build(prepared, spec, seed, fallback)


def check_starts(prepared: Preparation, config: ExperimentConfig) -> None:
    """Build every head at every point of the axes, so that one that cannot start is refused before the first trial.

    Raises:
        ProjheadsError: If a head cannot be built or initialised.
    """
    checked = []
    for _, derived in config.points():
        if derived.heads in checked:
            continue
        checked.append(derived.heads)
        there = prepared
        if derived.heads != prepared.config.heads:
            there = prepare(prepared.config.model_copy(update={"heads": derived.heads}), prepared.data)
        for spec in derived.heads.variants:
            new_head(there, spec, derived.seeds[0])


def own_start(prepared: Preparation, spec: HeadSpec, seed: int) -> str | None:
    """Return why a variant cannot start as the map that the others of its seed share; None if it does."""
    heads = prepared.config.heads
    fallback = find_init(heads.init).fallback
    if fallback is None or spec == heads.baseline:
        return None
    try:
        _build(prepared, spec, seed, heads.init, fold(_build(prepared, heads.baseline, seed, fallback)))
    except ProjheadsError as error:
        return str(error)
    return None


def start_group(prepared: Preparation, spec: HeadSpec, seed: int) -> str:
    """Name the group of trials that start as the same map with a seed; a variant on its own is named by its label."""
    init = find_init(prepared.config.heads.init)
    return init.name if init.takes_map and own_start(prepared, spec, seed) is None else str(spec)


def _build(prepared: Preparation, spec: HeadSpec, seed: int, init: str, old: nn.Module | None = None) -> Head:
    return build_head(
        spec,
        prepared.model.in_features,
        prepared.config.heads.out_features,
        init=init,
        generator=torch_generator(seed, "initialisation"),
        sample=prepared.sample,
        old=old,
        matches=prepared.matches,
    )


def _precision(config: ExperimentConfig, point: Point, device: torch.device) -> str:
    """Resolve the precision of an experiment; ``auto`` stays what it was for the trials that are finished.

    Otherwise, an experiment that is continued on another machine could train all of them again, in another precision.
    """
    if config.train.precision == "auto" and "precision" not in point.values:
        folder = ExperimentFolder(config.output)
        for trial in (*folder.trials(), *folder.candidates()):
            record = trial.read_trial()
            if record is not None and record.status == "finished" and record.precision:
                return record.precision
    return resolve_precision(config.train.precision, device)


def start_key(prepared: Preparation, spec: HeadSpec, seed: int) -> dict[str, Any]:
    """Collect everything that a trial's model depends on before its first step."""
    config = prepared.config
    start: dict[str, Any] = {}
    if prepared.old is not None:
        start = {"old": [parameter.tolist() for parameter in prepared.old.parameters()]}
    if find_init(config.heads.init).fallback is not None:
        start = {"baseline": str(config.heads.baseline), "baseline_files": head_files(config.heads.baseline)}
    return (
        start
        | {
            "version": TRAINING_VERSION,
            "model": config.model.key_values(),
            "backbone": prepared.backbone_hash,
            "out_features": config.heads.out_features,
            "init": config.heads.init,
            "sample": prepared.data.hash if prepared.sample is not None or prepared.matches is not None else None,
            "head": str(spec),
            "seed": seed,
        }
        | ({"head_files": files} if (files := head_files(spec)) else {})
        | ({"init_version": version} if (version := find_init(config.heads.init).version) != 1 else {})
    )
