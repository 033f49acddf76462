"""Which seeds of each variant are trained: the configured ones, or those that the rounds of a question ask for."""

from experiment.allocation import baseline_seeds
from experiment.config import ExperimentConfig
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import RoundsRecord
from projheads.init import find_init

__all__ = ["baseline_share", "planned_seeds"]


def planned_seeds(config: ExperimentConfig, folder: ExperimentFolder) -> dict[str, tuple[int, ...]]:
    """Return the seeds of each variant, by its label.

    Raises:
        ProjheadsError: If rounds.json is damaged.
    """
    labels = [str(spec) for spec in config.heads.variants]
    if config.question is None:
        return dict.fromkeys(labels, config.seeds)
    least, most = config.question.seeds
    record = RoundsRecord.find(folder.rounds_json)
    asked = record.next if record else {}
    first = dict.fromkeys(labels, least) | {str(config.heads.baseline): baseline_share(config, least, len(labels) - 1)}
    return {label: tuple(range(min(most, asked.get(label, first[label])))) for label in labels}


def baseline_share(config: ExperimentConfig, seeds: int, variants: int) -> int:
    """Return how many seeds of the baseline suit so many of each variant, at most those that a question allows."""
    if find_init(config.heads.init).takes_map:
        return seeds  # Variants that start as the same map are paired by seed; further seeds are of no use.
    return min(len(config.seeds), baseline_seeds(seeds, variants))
