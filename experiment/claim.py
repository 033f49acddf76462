"""One output folder holds one experiment, and one process at a time trains in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from experiment.config import ExperimentConfig
from experiment.config.load import dump_config, read_resolved
from experiment.disk.files import write_text
from experiment.disk.layout import ExperimentFolder
from experiment.disk.lock import locked
from projheads.errors import ProjheadsError

__all__ = ["claim_folder", "refuse_another"]

MAY_CHANGE = (
    "name",
    "description",
    "output",
    "cache",
    "axes",
    "question",
    "seeds",
    "device",
    "threads",
    "heads.files",
    "heads.variants",
    "heads.grids",
    "sweep",
    "eval",
    "train.log_every",
    "train.resume_every",
    "train.trackers",
)
"""Keys that may change once a folder holds trials."""


@contextmanager
def claim_folder(config: ExperimentConfig) -> Iterator[ExperimentFolder]:
    """Lock an experiment's folder for this process and write its resolved configuration.

    In an existing folder, variants and seeds may be added, and everything about the evaluation may change; what the
    finished trials were trained with may not.

    Raises:
        ProjheadsError: If the folder holds a different experiment, or another process is training in it.
    """
    folder = ExperimentFolder(config.output)
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder.path / ".lock", wait=False) as held:
        if not held:
            raise ProjheadsError(f"{folder.path}: another process is using this folder; wait for it or stop it")
        folder.remove_leftovers()
        if folder.trials():
            refuse_another(config, read_resolved(folder.path, config.heads.files))
        write_text(folder.experiment_yaml, dump_config(config))
        yield folder


def refuse_another(config: ExperimentConfig, there: ExperimentConfig) -> None:
    """Check that the trials in an output folder were trained with a given configuration.

    Args:
        config: The new configuration.
        there: The configuration stored in ``config.output``.

    Raises:
        ProjheadsError: If a key that must not change differs; the line names it.
    """
    ours, theirs = _flat(config.model_dump(mode="json")), _flat(there.model_dump(mode="json"))
    for key in sorted(ours.keys() | theirs.keys()):
        changeable = any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)
        if not changeable and ours.get(key) != theirs.get(key):
            raise ProjheadsError(
                f"{config.output}: holds a different experiment ({key} is {theirs.get(key)!r} there and "
                f"{ours.get(key)!r} here); set a different `output`, or delete the folder"
            )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
