"""Whether the token states of the training texts are stored or computed in lockstep: the one place that decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Literal

import numpy as np

from experiment.disk.files import read_json
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.room import bytes_text, free_bytes, largest_store
from experiment.encoding.speed import evenly_spaced
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel
from train.embedding.lockstep import kept_texts
from train.embedding.states import states_are_cached
from train.preparation import Preparation
from train.processes import Processes

__all__ = ["StatesWay", "choose_states", "with_states"]

SAMPLE = 128
"""Texts of each kind whose tokens are counted for an estimate."""

States = Literal["stored", "lockstep"]


@dataclass(frozen=True)
class StatesWay:
    """What becomes of the token states of the training texts.

    Attributes:
        states: The way.
        reason: Why.
        stored_bytes: What storing all of them takes.
        kept_bytes: What lockstep stores: those of the texts that are read again and again.
    """

    states: States
    reason: str
    stored_bytes: float
    kept_bytes: float


def choose_states(prepared: Preparation, folder: ExperimentFolder, processes: Processes) -> StatesWay | None:
    """Decide what becomes of the token states at one point of an experiment; None if the backbone is trained.

    Raises:
        ProjheadsError: If the configured way is not that of the trials that are there, or several processes train each
            trial together in lockstep.
    """
    wanted = prepared.config.train.states
    if prepared.config.train.trainable != "head":
        return None
    trained, started = _trained_in(prepared, folder), _started_in(prepared, folder)
    if wanted != "auto" and trained not in (None, wanted):
        raise ProjheadsError(
            f"{folder.path}: its trials were trained with train.states: {trained}; set that or auto, or a different "
            "`output`"
        )
    free = free_bytes(prepared.config.cache)
    stored_bytes, kept_bytes = _bytes_of_states(prepared)
    limit = largest_store(free)
    chosen: States = "stored"
    if wanted != "auto":
        chosen, reason = wanted, "set by train.states"
    elif trained or started:
        chosen, reason = trained or started or "stored", f"as {folder.path} was started"
    elif processes.count > 1:
        reason = "several processes train each trial together"
    elif states_are_cached(prepared):
        reason = "they are cached"
    elif stored_bytes <= limit:
        reason = f"up to {bytes_text(limit)} may be stored"
    else:
        chosen, reason = "lockstep", f"{bytes_text(free)} are free, of which at most {bytes_text(limit)} may be used"
    if chosen == "lockstep" and processes.count > 1:
        raise ProjheadsError(
            "train.states: lockstep does not work with several processes for each trial; use stored, or start one "
            "process (--workers trains several seeds at a time)"
        )
    return StatesWay(chosen, reason, stored_bytes, kept_bytes)


def with_states(prepared: Preparation, way: StatesWay | None) -> Preparation:
    """Return what the trials share, with the way that was chosen."""
    if way is None:
        return prepared
    config = prepared.config
    train = config.train.model_copy(update={"states": way.states})
    return replace(prepared, config=config.model_copy(update={"train": train}))


def _bytes_of_states(prepared: Preparation) -> tuple[float, float]:
    """Estimate the bytes of the states of all training texts, and of those that lockstep stores, in fp16."""
    model, probed = prepared.model, prepared.config.eval.explain is not None
    stored = kept = 0.0
    for data in (prepared.data, *prepared.later):
        stays = kept_texts(data, probed=probed)
        for is_query, texts, some in zip((True, False), (data.queries, data.documents), stays, strict=True):
            vectors = _vectors_per_text(model, texts, is_query=is_query)
            stored, kept = stored + len(texts) * vectors, kept + len(some) * vectors
    bytes_of_a_state = model.in_features * np.dtype(np.float16).itemsize
    return stored * bytes_of_a_state, kept * bytes_of_a_state


def _vectors_per_text(model: HostModel, texts: Sequence[str], *, is_query: bool) -> float:
    sample = evenly_spaced(texts, SAMPLE)
    if not sample:
        return 0.0
    tokens = model.tokenize(sample, is_query=is_query)
    return float(model.scoring_mask(tokens, is_query=is_query).sum()) / len(sample)


def _trained_in(prepared: Preparation, folder: ExperimentFolder) -> States | None:
    """Return how the trials of this point were trained; None if there are none."""
    for trial in _trials(prepared, folder):
        record = trial.read_trial()
        if record is not None:
            return record.states or "stored"
    return None


def _started_in(prepared: Preparation, folder: ExperimentFolder) -> States | None:
    """Return how a trial that has a resume point was started; None if none has one."""
    for trial in _trials(prepared, folder):
        for state in trial.resume.glob("**/state.json"):
            try:
                return "lockstep" if read_json(state)["states"] == "lockstep" else "stored"
            except (ProjheadsError, OSError, KeyError, TypeError):
                continue  # damaged, or of an older version, which stored all states
    return None


def _trials(prepared: Preparation, folder: ExperimentFolder) -> Iterator[TrialFolder]:
    """Yield the folders of the trials of this point of the axes that are there."""
    for spec in prepared.config.heads.variants:
        name = escape(spec.slug + prepared.point.suffix)
        found: list[Path] = []
        for pattern in (f"trials/{name}/seed-*", f"sweep/{name}/*/seed-*"):
            found += sorted(folder.path.glob(pattern))
        yield from map(TrialFolder, found)
