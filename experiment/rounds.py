"""Which seeds of each variant are trained: the configured ones, or those that the rounds of a question ask for."""

from collections.abc import Mapping
from typing import Any

from experiment.allocation import baseline_seeds
from experiment.config import ExperimentConfig
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.records import RoundsRecord, row_label
from projheads.init import find_init

__all__ = ["baseline_share", "planned_seeds", "planned_trials"]


def planned_seeds(
    config: ExperimentConfig, folder: ExperimentFolder, axes: Mapping[str, Any] | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the seeds of each row of the leaderboard, by its label.

    Args:
        config: The experiment, at one point of its axes.
        folder: Its folder.
        axes: The values at that point; None without axes.

    Raises:
        ProjheadsError: If rounds.json is damaged.
    """
    labels = {str(spec): row_label(str(spec), axes or {}) for spec in config.heads.variants}
    if config.question is None:
        return dict.fromkeys(labels.values(), config.seeds)
    least, most = config.question.seeds
    record = RoundsRecord.find(folder.rounds_json)
    asked = record.next if record else {}
    first = dict.fromkeys(labels, least) | {str(config.heads.baseline): baseline_share(config, least, len(labels) - 1)}
    return {row: tuple(range(min(most, asked.get(row, first[label])))) for label, row in labels.items()}


def planned_trials(config: ExperimentConfig) -> list[TrialFolder]:
    """List the folders of an experiment's trials in the order of the configuration, whether or not they exist.

    Raises:
        ProjheadsError: If rounds.json is damaged.
    """
    folder, found = ExperimentFolder(config.output), []
    for point, derived in config.points():
        seeds = planned_seeds(derived, folder, point.values)
        for spec in derived.heads.variants:
            row = row_label(str(spec), point.values)
            found += [folder.trial(spec.slug + point.suffix, seed) for seed in seeds[row]]
    return found


def baseline_share(config: ExperimentConfig, seeds: int, variants: int) -> int:
    """Return how many seeds of the baseline suit so many of each variant, at most those that a question allows."""
    if find_init(config.heads.init).takes_map:
        return seeds  # Variants that start as the same map are paired by seed; further seeds are of no use.
    return min(len(config.seeds), baseline_seeds(seeds, variants))
