"""The rounds of an experiment with a question: which seeds are trained after a look.

``rounds.json`` is a function of the result files and of the looks before, so an experiment that was stopped at any time
ends with the same file as one that was not.
"""

from collections.abc import Mapping, Sequence

from eval.look_history import add_look, survivors, write_rounds
from eval.report.reading import load_experiment
from eval.report.results import Experiment
from experiment.config import ExperimentConfig
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import RoundsRecord, row_label
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
    planned = {
        row: len(seeds)
        for point, derived in config.points()
        for row, seeds in planned_seeds(derived, folder, point.values).items()
    }
    record = experiment.rounds
    if record is None or not record.looks:
        record = RoundsRecord(question=dict(experiment.question), next=planned, done=False)
    if not _settled(experiment, planned):
        return None
    record = add_look(record, experiment)
    alive = survivors(record, experiment) if config.question and config.question.race else None
    asked = _next(config, record, planned, alive)
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


def _next(
    config: ExperimentConfig, record: RoundsRecord, planned: Mapping[str, int], alive: Sequence[str] | None
) -> dict[str, int]:
    """Return how many seeds each row needs: more for undecided ones and their baseline, up to the most.

    Args:
        config: The experiment.
        record: What is known after all looks.
        planned: How many seeds each row has.
        alive: In a race, the rows that are left in it, which get more seeds whatever was decided about them.
    """
    states, most = record.looks[-1].states if record.looks else {}, len(config.seeds)
    asked = dict(planned)
    for point, derived in config.points():
        rows = [row_label(str(spec), point.values) for spec in derived.heads.variants]
        baseline = row_label(str(derived.heads.baseline), point.values)
        chosen = [row for row in rows if row != baseline and not (row in states and states[row].state in DECIDED)]
        if alive is not None:
            chosen = [row for row in rows if row in alive] if len(alive) > 1 else []
        grown = {row: min(most, planned[row] + max(1, planned[row] // GROWTH)) for row in chosen}
        if grown and any(grown[row] > planned[row] for row in grown):
            share = baseline_share(derived, max(grown.values()), len(rows) - 1)
            asked |= grown | {baseline: max(planned[baseline], share)}
    return asked
