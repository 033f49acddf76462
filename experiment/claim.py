"""One output folder holds one experiment, and one process trains in it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from experiment.config import ExperimentConfig
from experiment.config.load import dump_config, read_resolved
from experiment.disk.files import write_text
from experiment.disk.layout import ExperimentFolder
from projheads.errors import ProjheadsError

__all__ = ["claim_folder", "refuse_another"]

MAY_CHANGE = (
    "name",
    "description",
    "output",
    "cache",
    "seeds",
    "device",
    "threads",
    "heads.files",
    "heads.variants",
    "sweep",
    "eval",
    "train.log_every",
    "train.checkpoint_every",
    "train.trackers",
)
"""Keys that may differ from those that the folder's trials were trained with."""


@contextmanager
def claim_folder(config: ExperimentConfig) -> Iterator[ExperimentFolder]:
    """Hold an experiment's folder for this process, and write its resolved configuration.

    More variants and seeds may be asked for in a folder that exists, and everything about the evaluation may change;
    what the finished trials were trained with may not.

    Raises:
        ProjheadsError: If the folder holds another experiment, or another process works in it.
    """
    folder = ExperimentFolder(config.output)
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProjheadsError(
                f"{folder.path}: another process works in this folder; wait for it or stop it"
            ) from None
        folder.remove_leftovers()
        if folder.trials():
            refuse_another(config, read_resolved(folder.path, config.heads.files))
        write_text(folder.experiment_yaml, dump_config(config))
        yield folder


def refuse_another(config: ExperimentConfig, there: ExperimentConfig) -> None:
    """Check that an output folder's trials were trained as a configuration says.

    Args:
        config: The configuration at hand.
        there: The one that ``config.output`` holds.

    Raises:
        ProjheadsError: If they were trained otherwise; it names a key that differs.
    """
    ours, theirs = _flat(config.model_dump(mode="json")), _flat(there.model_dump(mode="json"))
    for key in sorted(ours.keys() | theirs.keys()):
        changeable = any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)
        if not changeable and ours.get(key) != theirs.get(key):
            raise ProjheadsError(
                f"{config.output}: holds another experiment ({key} is {theirs.get(key)!r} there and {ours.get(key)!r} "
                "here); give this one another `output`, or delete the folder"
            )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
