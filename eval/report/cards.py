"""The model cards of an experiment's trials: how each model compares, and its scores for the Hub."""

from collections.abc import Sequence

from huggingface_hub import EvalResult

from eval.report.formats.markdown import escape, leaderboard_lines
from eval.report.results import Trial
from eval.report.table import Leaderboard
from experiment.disk.layout import TrialFolder
from projheads.card import set_results

__all__ = ["update_cards"]


def update_cards(board: Leaderboard) -> None:
    """Write the leaderboard and the scores of each trial into the card of its model; models without one are skipped."""
    table = leaderboard_lines(board)
    for trial in board.experiment.trials:
        evaluations = list(trial.evaluations.values())
        if not evaluations:
            continue
        folder = TrialFolder(evaluations[0].path.parent.parent).model
        own = f"This model is `{trial.label}` with seed {trial.seed} of the experiment {escape(board.experiment.name)}."
        set_results(folder, "\n".join([own, "", *table]), scores_of(trial), name=f"{trial.label} seed {trial.seed}")


def scores_of(trial: Trial) -> Sequence[EvalResult]:
    """List a trial's scores as the Hub's ``model-index`` has them."""
    return [
        EvalResult(
            task_type="text-retrieval",
            task_name="Retrieval",
            dataset_type=record.dataset.name,
            dataset_name=record.dataset.name,
            dataset_split=record.dataset.split,
            metric_type=measure,
            metric_name=measure,
            metric_value=round(mean, 6),
        )
        for record in (evaluation.record for evaluation in trial.evaluations.values())
        for measure, mean in record.means.items()
    ]
