"""What the diagnostics found, read from result files: one value for each trial, dataset and part of a diagnostic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.report.results import Evaluation, Reference, Trial
from experiment.disk.layout import TrialFolder
from experiment.disk.records import ExplainRecord, Finding, Meaning

__all__ = ["Explanation", "explanations", "findings_of"]


@dataclass(frozen=True)
class Explanation:
    """What one diagnostic found in all trials and reference rows.

    Attributes:
        name: Its name.
        meaning: What it is.
        values: By part, such as ``documents``, and row: by seed and dataset.
        per_query: Scores of each query: by name, row, and seed and dataset.
    """

    name: str
    meaning: Meaning
    values: Mapping[str, Mapping[str, Mapping[tuple[int, str], float]]] = field(default_factory=dict)
    per_query: Mapping[str, Mapping[str, Mapping[tuple[int, str], Mapping[str, float]]]] = field(default_factory=dict)

    @property
    def parts(self) -> list[str]:
        """The names of its values."""
        return list(self.values)

    def by_seed(self, part: str, row: str) -> list[float]:
        """Return a row's value of each seed, mean over datasets."""
        seeds: dict[int, list[float]] = {}
        for (seed, _), value in self.values.get(part, {}).get(row, {}).items():
            seeds.setdefault(seed, []).append(value)
        return [float(np.mean(values)) for values in seeds.values()]

    def mean(self, part: str, row: str) -> float | None:
        """Return a row's mean over seeds and datasets; None if it has no value."""
        values = self.by_seed(part, row)
        return float(np.mean(values)) if values else None


def explanations(trials: Sequence[Trial], references: Sequence[Reference]) -> dict[str, Explanation]:
    """Collect what the diagnostics found, by name, in the order in which the records list them."""
    rows = [(trial.label, trial.seed, trial.evaluations) for trial in trials]
    rows += [(one.label, one.record.seed, one.evaluations) for one in references]
    found: dict[str, Explanation] = {}
    for label, seed, evaluations in rows:
        for dataset, evaluation in evaluations.items():
            for name, finding in findings_of(evaluation).items():
                one = found.setdefault(name, Explanation(name, finding.meaning, {}, {}))
                for part, value in finding.values.items():
                    _at(one.values, part, label)[seed, dataset] = value
                for part, scores in finding.per_query.items():
                    _at(one.per_query, part, label)[seed, dataset] = scores
    return found


def findings_of(evaluation: Evaluation) -> dict[str, Finding]:
    """Read what the diagnostics found on one dataset; of a dataset of several collections, the mean over them."""
    if evaluation.parts:
        return _merged({name: findings_of(part) for name, part in evaluation.parts.items()})
    record = ExplainRecord.find(TrialFolder(evaluation.path.parents[1]).explain_json(evaluation.path.stem))
    return record.findings if record else {}


def _merged(parts: Mapping[str, Mapping[str, Finding]]) -> dict[str, Finding]:
    """Average the values that all collections have, and join the scores of their queries."""
    everyone = list(parts.values())
    merged = {}
    for name, first in everyone[0].items():
        if all(name in one for one in everyone):
            shared = [part for part in first.values if all(part in one[name].values for one in everyone)]
            scored = [part for part in first.per_query if all(part in one[name].per_query for one in everyone)]
            merged[name] = first.replace(
                values={part: float(np.mean([one[name].values[part] for one in everyone])) for part in shared},
                per_query={
                    part: {
                        f"{collection}/{query}": score
                        for collection, one in parts.items()
                        for query, score in one[name].per_query[part].items()
                    }
                    for part in scored
                },
                seconds=sum(one[name].seconds for one in everyone),
            )
    return merged


def _at(table: Mapping, part: str, row: str) -> dict:  # type: ignore[type-arg]
    inner: dict = table.setdefault(part, {}).setdefault(row, {})  # type: ignore[type-arg, attr-defined]
    return inner
