"""Looks at the verdicts: what each saw, and the decisions that all of them together allow.

Everything here is a function of the result files and of the looks before. Importing this module loads no torch.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.report.reading import load_experiment
from eval.report.results import Experiment, InconclusiveError
from eval.report.table import query_ids, scores_of
from eval.verdicts import MINIMUM_SEEDS, Decision, Scores, decide
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import LookRecord, LookState, RoundsRecord
from experiment.disk.yaml12 import read_yaml

if TYPE_CHECKING:
    from experiment.config import QuestionConfig

__all__ = ["add_look", "note_look", "question_values", "write_rounds"]


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
        config, _ = read_yaml(experiment.config_text, str(folder.experiment_yaml))
        if not (isinstance(config, dict) and config.get("question")):
            record = RoundsRecord.find(folder.rounds_json) or RoundsRecord(done=True)
            write_rounds(folder, add_look(record, experiment, None))


def add_look(record: RoundsRecord, experiment: Experiment, question: "QuestionConfig | None") -> RoundsRecord:
    """Add a look at the present scores, or repeat the last one if it saw the same seeds.

    Scores that allow no verdict yet are not a look.
    """
    baseline = next((trial.label for trial in experiment.trials if trial.record.is_baseline), "")
    scores = {label: _in_order(one, record.trained.get(label, [])) for label, one in _row_scores(experiment).items()}
    counts = {label: len(one.seeds) for label, one in scores.items()}
    enough = [label for label, count in counts.items() if count >= MINIMUM_SEEDS]
    if baseline not in enough or len(enough) < 2:
        return record
    looks = [_seen(look, record.trained, scores) for look in record.looks]
    kept = record.looks[:-1] if looks and looks[-1] == counts else record.looks
    looks = [*looks[: len(kept)], counts]
    # The error rates of a question need the most seeds to be fixed before the first look.
    fixed = question is not None and record.question == question_values(question)
    decisions = decide(
        scores,
        baseline,
        looks,
        most=question.seeds[1] if question is not None and fixed else None,
        resolution=None if question is None else question.resolution / 100,
        new_queries=question is None or question.queries == "new",
    )
    states = {label: _state(decision) for label, decision in decisions.items()}
    trained = {label: list(one.seeds) for label, one in scores.items()}
    return record.replace(trained=record.trained | trained, looks=[*kept, LookRecord(seeds=counts, states=states)])


def write_rounds(folder: ExperimentFolder, record: RoundsRecord) -> None:
    """Write rounds.json if it says something new."""
    if (record.looks or record.next) and record != RoundsRecord.find(folder.rounds_json):
        record.write(folder.rounds_json)


def question_values(question: "QuestionConfig | None") -> dict[str, Any] | None:
    """Return a question as rounds.json records it; None for a fixed list of seeds."""
    return None if question is None else question.model_dump(mode="json")


def _row_scores(experiment: Experiment) -> dict[str, Scores]:
    """Return the scores of each row's complete trials."""
    queries = {name: query_ids(experiment, name) for name in experiment.datasets}
    complete = [trial for trial in experiment.trials if queries and trial.evaluations.keys() >= queries.keys()]
    return {
        label: scores_of([trial for trial in complete if trial.label == label], experiment.measures[0], queries)
        for label in dict.fromkeys(trial.label for trial in complete)
    }


def _in_order(scores: Scores, trained: Sequence[int]) -> Scores:
    """Return the scores with the seeds in the order in which looks first saw them, new ones last."""
    order = [seed for seed in trained if seed in scores.seeds]
    order += [seed for seed in scores.seeds if seed not in order]
    return replace(scores, seeds=tuple(order), tables=scores.at(order))


def _seen(look: LookRecord, trained: Mapping[str, Sequence[int]], scores: Mapping[str, Scores]) -> dict[str, int]:
    """Return how many seeds of each row a look saw, without trials that were deleted since."""
    return {
        label: sum(seed in scores[label].seeds for seed in trained[label][:count])
        for label, count in look.seeds.items()
        if label in scores
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
