"""The rounds of an experiment with a question: which seeds are trained after a look.

``rounds.json`` is a function of the result files and of the looks before, so an experiment that was stopped at any time
ends with the same file as one that was not.
"""

from collections.abc import Mapping

from eval.look_history import add_look, write_rounds
from eval.report.reading import load_experiment
from eval.report.results import Experiment
from experiment.config import ExperimentConfig
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import RoundsRecord
from experiment.rounds import baseline_share, planned_seeds

__all__ = ["update_rounds"]

DECIDED = ("better", "worse", "equivalent")

GROWTH = 4
"""A round adds a quarter of the seeds that an undecided variant has, at least one."""


def update_rounds(config: ExperimentConfig) -> RoundsRecord | None:
    """Look at the verdicts of an experiment with a question, and decide what is trained next.

    Returns:
        What rounds.json now holds; None, and nothing changes, unless each trial of the present round has been
        evaluated or has failed.

    Raises:
        ProjheadsError: If there is nothing to compare, or a file is damaged.
    """
    folder = ExperimentFolder(config.output)
    experiment = load_experiment(config.output)
    planned = {label: len(seeds) for label, seeds in planned_seeds(config, folder).items()}
    record = experiment.rounds
    if record is None or not record.looks:
        record = RoundsRecord(question=dict(experiment.question), next=planned, done=False)
    if not _settled(experiment, planned):
        return None
    record = add_look(record, experiment)
    asked = _next(config, record, planned)
    record = record.replace(next=asked, done=asked == planned)
    write_rounds(folder, record)
    return record


def _settled(experiment: Experiment, planned: Mapping[str, int]) -> bool:
    """Return whether each planned trial has been evaluated on every data set, or has failed."""
    ended = {
        (trial.label, trial.seed)
        for trial in experiment.trials
        if trial.error is not None or trial.evaluations.keys() >= set(experiment.datasets)
    }
    return all((label, seed) in ended for label, count in planned.items() for seed in range(count))


def _next(config: ExperimentConfig, record: RoundsRecord, planned: Mapping[str, int]) -> dict[str, int]:
    """Return how many seeds each variant needs: more for undecided ones and the baseline, up to the most."""
    baseline, most = str(config.heads.baseline), config.seeds[-1] + 1
    states = record.looks[-1].states if record.looks else {}
    asked = {
        label: count
        if label in states and states[label].state in DECIDED
        else min(most, count + max(1, count // GROWTH))
        for label, count in planned.items()
        if label != baseline
    }
    grown = [asked[label] for label in asked if asked[label] > planned[label]]
    share = baseline_share(config, max(grown), len(asked)) if grown else 0
    return {label: asked.get(label, max(planned[baseline], share)) for label in planned}
