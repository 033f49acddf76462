"""What an experiment will evaluate once its trials are trained, for estimates before that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from eval.subjects import Subject
from experiment.config import ExperimentConfig
from experiment.config.grid import Point
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.encoding.backbone_layers import create_model
from experiment.rounds import planned_seeds
from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.folding import folds
from projheads.hosts import load_host
from projheads.hosts.base import HostModel
from projheads.reparameterization import count_multiply_adds

__all__ = ["Planned", "list_planned"]


@dataclass(frozen=True)
class Planned:
    """Subjects that do not exist yet and will share a backbone or start from the same one.

    Attributes:
        config: The experiment, at a point of its axes.
        width: Width of the backbone's token states.
        subjects: The subjects.
        like: A trained subject with the same frozen backbone; None if there is none.
    """

    config: ExperimentConfig
    width: int
    subjects: tuple[Subject, ...]
    like: Subject | None

    def open(self, device: str) -> HostModel:
        """Open the pretrained backbone with an untrained head.

        Raises:
            ProjheadsError: If it cannot be opened.
        """
        head = build_head(self.config.heads.baseline, self.width, self.config.heads.out_features)
        return create_model(load_host(self.config.model.host), self.config.model, head, device=device)


def list_planned(config: ExperimentConfig, trained: Sequence[Subject], evaluated_on: str | None) -> list[Planned]:
    """List what will be evaluated besides the trained subjects: other trials, reference rows, shared learning rates.

    With a question, these are the trials of its next round. A head that cannot be built is left out.

    Args:
        config: The experiment.
        trained: The trials that are there.
        evaluated_on: Leave out reference rows that have an evaluation on this data set; None for none.

    Raises:
        ProjheadsError: If the backbone cannot be found, or rounds.json is damaged.
    """
    there = {subject.folder.path: subject for subject in trained}
    found: dict[str, Planned] = {}
    references = [(name, at) for name in config.eval.references for at in config.reference_points(name)]
    for point, derived in config.points():
        key = derived.model.model_dump_json()
        width = load_host(derived.model.host).backbone_width(derived.model.backbone, derived.model.settings())
        before = found.get(key, Planned(derived, width, (), None))
        subjects, like = list(before.subjects), before.like
        here: dict[str, str] = {name: at.folder for name, at in references if at.point == point}
        for subject in _of_point(point, derived, here, width):
            trial = there.get(subject.folder.path)
            if trial is not None and trial.frozen:
                like = trial
            elif trial is None and not (evaluated_on and subject.folder.eval_json(evaluated_on).exists()):
                subjects.append(subject)
        found[key] = Planned(derived, width, tuple(subjects), like)
    return [planned for planned in found.values() if planned.subjects]


def _of_point(point: Point, derived: ExperimentConfig, references: Mapping[str, str], width: int) -> Iterator[Subject]:
    """Yield the subjects of a point of the axes; ``references`` are the folders of its reference rows by name."""
    folder = ExperimentFolder(derived.output)
    shared = derived.sweep.shared_point(derived.train) if derived.eval.shared_rate else None
    if "backbone" in references:
        backbone = folder.reference(references["backbone"])
        yield replace(_subject("backbone", backbone, derived), kind="backbone", frozen=True)
    for spec, seeds in zip(derived.heads.variants, planned_seeds(derived, folder, point.values).values(), strict=True):
        try:
            head = build_head(spec, width, derived.heads.out_features)
        except ProjheadsError:
            continue
        slug = spec.slug + point.suffix
        model = replace(
            _subject(str(spec), folder.trial(slug, 0), derived),
            multiply_adds=count_multiply_adds(head),
            folds=folds(head),
        )
        for seed in seeds:
            yield _placed(model, folder.trial(slug, seed))
        if shared is not None:
            # Most seeds that are swept choose a different point; which ones is known only then.
            for seed in derived.swept_seeds:
                yield replace(_placed(model, folder.candidate(slug, shared.slug, seed)), role="shared")
        if "untrained" in references and spec == derived.heads.baseline:
            for seed in derived.untrained_seeds:
                yield replace(_placed(model, folder.reference(references["untrained"], seed)), frozen=True)


def _subject(name: str, folder: TrialFolder, config: ExperimentConfig) -> Subject:
    return Subject(
        name=name,
        folder=folder,
        fingerprint=str(folder.path),
        kind="model",
        model=folder.model,
        host=config.model.host,
        frozen=config.train.trainable == "head",
        out_features=config.heads.out_features,
    )


def _placed(subject: Subject, folder: TrialFolder) -> Subject:
    return replace(subject, folder=folder, model=folder.model, fingerprint=str(folder.path))
