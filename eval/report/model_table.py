"""The table at the end of an evaluation of given models: one line per dataset, and their mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.report import format as fmt
from eval.report.reading import load_experiment
from eval.report.results import Evaluation

__all__ = ["print_models"]


def print_models(folder: Path, console: Console | None = None) -> dict[str, dict[str, dict[str, float | None]]]:
    """Print the scores of the models in a results folder: every measure of one, or the first measure of several.

    Args:
        folder: The folder of the results.
        console: Where to print; None for the terminal.

    Returns:
        The mean of every measure, from 0 to 1, by model and dataset.

    Raises:
        ProjheadsError: If it is empty, or nothing can be concluded from its datasets.
    """
    experiment, console = load_experiment(folder), console or Console()
    trials, measures = experiment.trials, experiment.measures
    if len(trials) == 1:
        columns = {measure: (trials[0].evaluations, measure) for measure in measures}
        what = trials[0].label
    else:
        columns = {trial.label: (trial.evaluations, measures[0]) for trial in trials}
        what = measures[0]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("dataset", overflow="fold")
    for header in columns:
        table.add_column(Text(fmt.visible(header)), justify="right", overflow="fold")
    for name in experiment.datasets:
        cells = [_points([_mean(evaluations, name, measure)]) for evaluations, measure in columns.values()]
        table.add_row(Text(fmt.visible(name)), *cells)
    if len(experiment.datasets) > 1:
        means = [
            _points([_mean(evaluations, name, measure) for name in experiment.datasets])
            for evaluations, measure in columns.values()
        ]
        table.add_row(f"mean of {len(experiment.datasets)}", *means, style="bold")
    console.print()
    console.print(Text(f"{fmt.visible(what)}, in points (times 100)"))
    console.print(table)
    for remark in experiment.remarks:
        console.print(Text(f"Note: {fmt.visible(remark)}"))
    console.print()
    for trial in trials:
        if trial.evaluations:
            where = next(iter(trial.evaluations.values())).path.parent
            console.print(Text(f"scores per query and run files: {where}"), soft_wrap=True)
    return {
        trial.label: {
            name: {measure: _mean(trial.evaluations, name, measure) for measure in measures}
            for name in experiment.datasets
        }
        for trial in trials
    }


def _mean(evaluations: Mapping[str, Evaluation], name: str, measure: str) -> float | None:
    if name not in evaluations:
        return None
    return float(np.mean(list(evaluations[name].record.measures[measure].values())))


def _points(means: Sequence[float | None]) -> str:
    known = [mean for mean in means if mean is not None]
    return fmt.points(float(np.mean(known))) if len(known) == len(means) else "-"
