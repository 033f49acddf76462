"""Looks at the verdicts: what each saw, and the decisions that all of them together allow.

Everything here is a function of the result files and of the looks before. Importing this module loads no torch.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from eval.report.judged import all_looks, earlier_looks, most_seeds, points_of, race_of, resolution_of
from eval.report.reading import load_experiment
from eval.report.results import Experiment, InconclusiveError
from eval.report.table import baselines_of, query_ids, scores_of
from eval.verdicts import Decision, Scores, decide
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import LookRecord, LookState, RoundsRecord

__all__ = ["add_look", "note_look", "survivors", "write_rounds"]


def note_look(path: Path) -> None:
    """Record that the verdicts of an experiment with a fixed list of seeds are read.

    Adding seeds after a look and looking again makes false calls likelier; the verdicts of later looks account for it.

    Args:
        path: The experiment's folder; nothing is recorded if its seeds are added in rounds.

    Raises:
        ProjheadsError: If a file is damaged.
    """
    folder = ExperimentFolder(path)
    with suppress(InconclusiveError):
        experiment = load_experiment(path)
        if not experiment.question:
            write_rounds(folder, add_look(experiment.rounds or RoundsRecord(done=True), experiment))


def add_look(record: RoundsRecord, experiment: Experiment) -> RoundsRecord:
    """Add a look at the present scores, or repeat the last one if it saw the same seeds.

    Scores that allow no verdict yet are not a look.
    """
    experiment, about = replace(experiment, rounds=record), experiment.question.get("queries", "new")
    scores = _row_scores(experiment)
    points = points_of(scores, baselines_of(experiment))
    trained, states = dict(record.trained), dict[str, LookState]()
    for baseline, group in points.items():
        ordered, looks = all_looks(experiment, group, baseline)
        decisions = decide(
            ordered,
            baseline,
            looks,
            most=most_seeds(experiment),
            resolution=resolution_of(experiment),
            new_queries=about == "new",
            families=len(points),
        )
        states |= {label: _state(decision) for label, decision in decisions.items()}
        trained |= {label: list(one.seeds) for label, one in ordered.items()} if looks else {}
    if not states:
        return record
    counts = {label: len(scores[label].seeds) for group in points.values() for label in group}
    same = earlier_looks(record, scores)[-1:] == [counts]
    look = LookRecord(seeds=counts, states=states)
    return record.replace(trained=trained, looks=[*(record.looks[:-1] if same else record.looks), look])


def survivors(record: RoundsRecord, experiment: Experiment) -> tuple[str, ...]:
    """Return the rows that no other one is shown to beat, the best first, after all looks."""
    experiment = replace(experiment, rounds=record)
    return race_of(experiment, _row_scores(experiment), baselines_of(experiment)).survivors


def write_rounds(folder: ExperimentFolder, record: RoundsRecord) -> None:
    """Write rounds.json if it says something new."""
    if (record.looks or record.next) and record != RoundsRecord.find(folder.rounds_json):
        record.write(folder.rounds_json)


def _row_scores(experiment: Experiment) -> dict[str, Scores]:
    """Return the scores of each row's complete trials."""
    queries = {name: query_ids(experiment, name) for name in experiment.datasets}
    complete = [trial for trial in experiment.trials if queries and trial.evaluations.keys() >= queries.keys()]
    return {
        label: scores_of([trial for trial in complete if trial.label == label], experiment.measures[0], queries)
        for label in dict.fromkeys(trial.label for trial in complete)
    }


def _state(decision: Decision) -> LookState:
    return LookState(
        state=decision.word,
        look=decision.look,
        seeds=decision.seeds,
        baseline_seeds=decision.baseline_seeds,
        difference=decision.difference,
        low=decision.low,
        high=decision.high,
        adjusted_p=decision.adjusted_p,
        equivalent_p=decision.equivalent_p,
    )
