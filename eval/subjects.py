"""What is evaluated: the trials of an experiment and its reference rows."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from eval.search.lexical import BM25_SETTINGS
from experiment.config import ExperimentConfig
from experiment.disk.files import sha256_json
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.lock import locked
from experiment.disk.models import is_intact, save_model, saved_backbone_hash, weights_hash
from experiment.disk.records import ReferenceRecord, TrialRecord, row_label
from experiment.encoding.backbone_layers import create_model
from experiment.rounds import planned_seeds
from projheads.build import build_head
from projheads.hosts import load_host
from projheads.hosts.base import DEFAULT_OPTIONS, OpenOptions
from projheads.registry import head_files

__all__ = ["Subject", "list_references", "list_shared", "list_trials"]

DESCRIPTIONS = {
    "bm25": f"BM25 ({BM25_SETTINGS})",
    "backbone": "the backbone's own token states, normalised, without a head",
}
"""What the reference rows are that evaluation writes."""


@dataclass(frozen=True)
class Subject:
    """A trial or a reference row.

    Attributes:
        name: What messages call it.
        folder: Where its files are.
        fingerprint: Content hash of what it is; a subject whose fingerprint has changed is evaluated again.
        kind: ``model``, ``backbone`` for a model without its head, or ``bm25``.
        model: The folder of the saved model; for BM25 it does not exist.
        host: The host that opens it.
        frozen: Whether other subjects share its backbone, so that its token states are worth keeping.
        multiply_adds: Multiply-adds of its head for one token; for the estimate of the duration.
        out_features: Width of its token embeddings; for the estimate.
        backbone: Subjects of one backbone take equally long to encode; for the estimate.
        kept: Whether its embeddings stay in the cache, for a different search or other measures.
        folds: Whether its head is linear; True if that is not known.
        saved_hash: ``weights_hash`` of the model when it was saved; None if the model cannot have changed since.
        options: How its model may be opened.
        role: ``own`` for a trial or reference row, ``shared`` for a sweep's trial at the learning rate of all variants.
    """

    name: str
    folder: TrialFolder
    fingerprint: str
    kind: Literal["model", "backbone", "bm25"]
    model: Path
    host: str
    frozen: bool
    multiply_adds: int = 0
    out_features: int = 128
    backbone: str = ""
    kept: bool = False
    folds: bool = True
    saved_hash: str | None = None
    options: OpenOptions = DEFAULT_OPTIONS
    role: Literal["own", "shared"] = "own"

    @property
    def has_stand_in(self) -> bool:
        """Whether a linear stand-in of its head is evaluated: the head is non-linear and its token states are kept."""
        return self.kind == "model" and self.frozen and not self.folds and self.role == "own"

    @property
    def scales_pooled(self) -> bool:
        """Whether its host scales pooled token vectors to norm 1; see ``eval.search.pooling``."""
        return self.host == "sentence-transformers"


def list_trials(config: ExperimentConfig, say: Callable[[str], None]) -> list[Subject]:
    """List the finished trials in the order of the configuration, and report which are skipped and why."""
    folder = ExperimentFolder(config.output)
    subjects, missing = [], []
    for point, derived in config.points():
        seeds = planned_seeds(derived, folder, point.values)
        labels = {spec: row_label(str(spec), point.values) for spec in derived.heads.variants}
        for spec, seed in ((spec, seed) for spec, label in labels.items() for seed in seeds[label]):
            files, name = folder.trial(spec.slug + point.suffix, seed), f"{labels[spec]} seed {seed}"
            trial = files.read_trial()
            if trial is None:
                missing.append(name)
            elif trial.weights_hash is None:
                say(f"{name}: skipped, its training failed ({trial.error})")
            elif trial.head_files != head_files(spec):
                say(f"{name}: skipped, the file of its head has changed since; train this experiment again")
            else:
                subjects.append(_trial(derived, name, files, trial))
    if missing:
        say(f"skipped, not trained yet: {', '.join(missing)}")
    return subjects


def list_shared(config: ExperimentConfig) -> list[Subject]:
    """List the sweep's trials at the experiment's own training settings, in ``sweep/<variant>/<point>/seed-<n>``.

    They are those of the swept seeds that use a different point, if theirs is in the grid and ``eval.shared_rate`` on.
    """
    folder, found = ExperimentFolder(config.output), []
    for place, derived in config.points():
        point = derived.sweep.shared_point(derived.train) if derived.eval.shared_rate else None
        if point is None:
            continue
        for spec, seed in itertools.product(derived.heads.variants, derived.swept_seeds):
            slug = spec.slug + place.suffix
            files = folder.candidate(slug, point.slug, seed)
            trial, own = files.read_trial(), folder.trial(slug, seed).read_trial()
            if own is not None and trial is not None and own.weights_hash == trial.weights_hash:
                continue  # The seed uses this point, so it is evaluated as a trial.
            if trial is not None and trial.status == "finished" and files.model.exists():
                name = f"{row_label(str(spec), place.values)} seed {seed} at {point}"
                found.append(replace(_trial(derived, name, files, trial), role="shared"))
    return found


def _trial(config: ExperimentConfig, name: str, files: TrialFolder, trial: TrialRecord) -> Subject:
    return Subject(
        name=name,
        folder=files,
        fingerprint=str(trial.weights_hash),
        kind="model",
        model=files.model,
        host=trial.host,
        frozen=config.train.trainable == "head",
        multiply_adds=trial.multiply_adds,
        out_features=trial.out_features,
        folds=trial.folds,
        saved_hash=trial.weights_hash,
        options=_options(config),
    )


def _options(config: ExperimentConfig) -> OpenOptions:
    """Return how the saved models of an experiment are opened: those of the hub's revisions are folders now."""
    return OpenOptions(trust_remote_code=config.model.trust_remote_code)


def list_references(config: ExperimentConfig, trials: Sequence[Subject], say: Callable[[str], None]) -> list[Subject]:
    """List the configured reference rows, and write the record of each."""
    host = trials[0].host if trials else config.model.host
    untrained = list(_untrained(config, host))
    found: list[Subject] = []
    for name in dict.fromkeys(config.eval.references):
        if name == "untrained":
            found.extend(untrained)
            if not untrained:
                say("untrained: skipped, it has not been written yet; train this experiment again")
            continue
        for at in config.reference_points(name):
            files = ExperimentFolder(config.output).reference(at.folder)
            record = ReferenceRecord(name=name, description=DESCRIPTIONS[name], seed=0, axes=at.axes)
            if name == "bm25":
                _store(record, files)
                found.append(Subject(name, files, sha256_json(BM25_SETTINGS), "bm25", files.model, "", False))
                continue
            alike = [] if at.axes else [*untrained, *(trial for trial in trials if trial.frozen)]
            model = _pretrained(at.config, host, files, alike)
            _store(record.replace(weights_hash=weights_hash(model) if model == files.model else None), files)
            label, shared = row_label(name, at.axes), saved_backbone_hash(model)
            found.append(Subject(label, files, shared, "backbone", model, host, True, options=_options(config)))
    return found


def _untrained(config: ExperimentConfig, host: str) -> Iterator[Subject]:
    """Find the models from which the training of the baseline started; train writes them.

    Starts that draw nothing from the seed give every seed one model, which is listed once.
    """
    for at in config.reference_points("untrained"):
        listed = set[str]()
        for seed in config.untrained_seeds:
            files = ExperimentFolder(config.output).reference(at.folder, seed)
            record = ReferenceRecord.find(files.reference_json)
            if record is not None and record.weights_hash is not None and record.weights_hash not in listed:
                listed.add(record.weights_hash)
                saved, name = record.weights_hash, f"{row_label('untrained', at.axes)} seed {seed}"
                yield Subject(
                    name=name,
                    folder=files,
                    fingerprint=saved,
                    kind="model",
                    model=files.model,
                    host=host,
                    frozen=True,
                    out_features=at.config.heads.out_features,
                    saved_hash=saved,
                    options=_options(config),
                )


def _pretrained(config: ExperimentConfig, host: str, files: TrialFolder, saved: Sequence[Subject]) -> Path:
    """Return a saved model with the pretrained backbone, which is made if there is none that is intact."""
    for subject in saved:
        if is_intact(subject.model, subject.saved_hash):
            return subject.model
    with locked(files.path / ".lock"):
        record = ReferenceRecord.find(files.reference_json)
        made = record.weights_hash if record is not None else None
        if not files.model.exists() or (made is not None and not is_intact(files.model, made)):
            adapter, backbone, settings = load_host(host), config.model.backbone, config.model.settings()
            width = adapter.backbone_width(backbone, settings)
            head = build_head(config.heads.baseline, width, config.heads.out_features)
            save_model(create_model(adapter, config.model, head), files.model)
    return files.model


def _store(record: ReferenceRecord, files: TrialFolder) -> None:
    if ReferenceRecord.find(files.reference_json) != record:
        record.write(files.reference_json)
