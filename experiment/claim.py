"""One output folder holds one experiment, and one process at a time trains in it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiment.config import ExperimentConfig, GivenModelsConfig
from experiment.config.load import dump_config, read_resolved
from experiment.disk.files import remove_leftovers, write_text
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.lock import locked
from experiment.disk.records import TrialRecord
from experiment.disk.resume_points import remove_resume_points
from projheads.errors import ProjheadsError

__all__ = ["check_folder", "claim_folder", "is_stored", "store_config"]

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
    "train.states",
    "train.trackers",
)
"""Keys that may change once a folder holds trials."""


@contextmanager
def claim_folder(config: ExperimentConfig, say: Callable[[str], None]) -> Iterator[ExperimentFolder]:
    """Lock an experiment's folder for this process, and check that it may hold this experiment.

    In an existing folder, variants and seeds may be added, and everything about the evaluation may change; what the
    finished trials were trained with may not.

    Args:
        config: The experiment.
        say: Reports a configuration in the folder that is damaged, so it will be written again.

    Raises:
        ProjheadsError: If the folder holds a different experiment, or another process is training in it.
    """
    folder = ExperimentFolder(config.output)
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder.path / ".lock", wait=False) as held:
        if not held:
            raise ProjheadsError(f"{folder.path}: another process is using this folder; wait for it or stop it")
        folder.remove_leftovers()
        remove_leftovers(config.cache, recursive=False)
        remove_resume_points(folder)
        if folder.trials():
            check_folder(config, say)
        yield folder


def check_folder(config: ExperimentConfig, say: Callable[[str], None]) -> ExperimentFolder:
    """Check that a folder holds the trials of an experiment.

    If its experiment.yaml is missing or damaged, the records of its trials are checked instead.

    Args:
        config: The experiment.
        say: Reports a configuration in the folder that is damaged, so it will be written again.

    Raises:
        ProjheadsError: If it holds a different experiment, or neither a configuration nor trials.
    """
    folder = ExperimentFolder(config.output)
    try:
        there = read_resolved(folder.path, config.heads.files)
    except ProjheadsError as error:
        trials = folder.trials()
        if not trials:
            raise
        for trial in trials:
            _refuse_another_trial(config, trial)
        say(f"{str(error).splitlines()[0].partition('; rerun ')[0]}; this command writes it again")
    else:
        _refuse_another(config, there)
    return folder


def is_stored(config: ExperimentConfig) -> bool:
    """Return whether an experiment's folder has a valid configuration."""
    try:
        read_resolved(config.output, config.heads.files)
    except ProjheadsError:
        return False
    return True


def store_config(config: ExperimentConfig | GivenModelsConfig, file: Path) -> bytes | None:
    """Write a resolved configuration, unless the file already holds it.

    Returns:
        What the file held before; None if it did not exist.
    """
    before = file.read_bytes() if file.exists() else None
    if before != dump_config(config).encode("utf-8"):
        write_text(file, dump_config(config))
    return before


def _refuse_another(config: ExperimentConfig, there: ExperimentConfig) -> None:
    """Check that the trials in an output folder were trained with a given configuration.

    Args:
        config: The new configuration.
        there: The configuration stored in ``config.output``.

    Raises:
        ProjheadsError: If a key that must not change differs; the line names it.
    """
    ours, theirs = _flat(config.model_dump(mode="json")), _flat(there.model_dump(mode="json"))
    for key in sorted(ours.keys() | theirs.keys()):
        may_change = any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)
        compared = _is_axis(config, key) and _is_axis(there, key)
        if ours.get(key) != theirs.get(key) and not may_change and not compared:
            place = f"{config.output}: holds a different experiment"
            raise _differs(place, key, theirs.get(key), ours.get(key))


def _refuse_another_trial(config: ExperimentConfig, folder: TrialFolder) -> None:
    """Check that a trial may belong to an experiment, as far as its record says how it was trained."""
    trial = TrialRecord.read(folder.trial_json)
    trained = {
        "model.backbone": (trial.backbone, config.model.backbone),
        "heads.init": (trial.init, config.heads.init),
        "heads.out_features": (trial.out_features, config.heads.out_features),
        "train.trainable": (trial.trainable, config.train.trainable),
    }
    for key, (theirs, ours) in trained.items():
        if theirs is not None and theirs != ours and not _is_axis(config, key):
            raise _differs(f"{folder.path}: a trial of a different experiment", key, theirs, ours)


def _is_axis(config: ExperimentConfig, key: str) -> bool:
    """Return whether trials take the values of a key from an axis, so that its own value does not count."""
    return key in config.axes or key.removeprefix("train.") in config.axes


def _differs(place: str, key: str, theirs: Any, ours: Any) -> ProjheadsError:
    return ProjheadsError(
        f"{place} ({key} is {theirs!r} there and {ours!r} here); for that one, set {key}={json.dumps(theirs)}; for a "
        "new one, set a different `output`, or delete the folder"
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
