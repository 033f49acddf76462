"""Sends the lines of train.jsonl to TensorBoard, Weights & Biases or trackio, through accelerate's trackers."""

import importlib.util
import netrc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from experiment.config import ExperimentConfig
from experiment.config.train_section import Tracker
from projheads.errors import ProjheadsError

__all__ = ["check_trackers", "open_trackers"]

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


def check_trackers(names: tuple[Tracker, ...]) -> None:
    """Check that the packages of the configured trackers are installed.

    Raises:
        ProjheadsError: If one is missing.
    """
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise ProjheadsError(
                f"train.trackers: {name} is not installed; run pip install {PACKAGES[name]}, or remove it"
            )
        if name == "wandb" and not _can_log_to_wandb():
            raise ProjheadsError(
                "train.trackers: wandb is not logged in; run `wandb login`, or set WANDB_MODE=offline, or remove it"
            )


def _can_log_to_wandb() -> bool:
    """Return whether wandb is offline or has credentials, without asking for them or using the network."""
    import wandb

    settings = wandb.setup().settings
    if settings.mode in ("offline", "disabled", "dryrun") or settings.api_key or settings.identity_token_file:
        return True
    hosts = {urlparse(settings.base_url).hostname, "api.wandb.ai"}
    try:
        return bool(hosts & netrc.netrc(os.environ.get("NETRC")).hosts.keys())
    except (OSError, netrc.NetrcParseError):
        return False


@contextmanager
def open_trackers(
    config: ExperimentConfig, trial: str, folder: Path, *, main: bool = True
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Open the trackers of one trial.

    Args:
        config: The experiment; its name is the name of the project.
        trial: Name of the trial.
        folder: Where trackers write their files.
        main: False in processes that do not report.

    Yields:
        A function that logs one line of train.jsonl.
    """
    if not (config.train.trackers and main):
        yield lambda line: None
        return
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState(cpu=config.device == "cpu")
    trackers = []
    for name in config.train.trackers:
        kind = LOGGER_TYPE_TO_CLASS[name]
        if name == "tensorboard":
            trackers.append(kind(run_name=name, logging_dir=str(folder)))
        elif name == "wandb":
            folder.mkdir(parents=True, exist_ok=True)
            trackers.append(kind(run_name=config.name, name=trial, dir=str(folder)))
        else:
            trackers.append(kind(run_name=config.name, name=trial))
        trackers[-1].start()

    def show(line: dict[str, Any]) -> None:
        values = {name: value for name, value in line.items() if name not in ("step", "probe") and value is not None}
        values |= {f"loss/{source}": loss for source, loss in values.pop("source_losses", {}).items()}
        values |= {f"development/{name}": score for name, score in values.pop("development", {}).items()}
        for tracker in trackers if values else ():
            tracker.log(values, step=line["step"])

    try:
        yield show
    finally:
        for tracker in trackers:
            tracker.finish()
