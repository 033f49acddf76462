"""Computes the diagnostics of a trial or reference row on one data set, each written once."""

import math
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.explain.given import Given
from eval.explain.registry import Diagnostic, Measured, import_diagnostics
from eval.subjects import Subject
from experiment.config import EvalConfig
from experiment.disk.files import sha256_json
from experiment.disk.records import ExplainRecord, Finding
from projheads.errors import ProjheadsError

__all__ = ["Explainer"]

EXPLAIN_VERSION = 2
"""Raised when a change to the samples changes what diagnostics compute."""


@dataclass(frozen=True)
class Explainer:
    """Knows which diagnostics of a data set are missing, and computes them.

    Attributes:
        dataset: Name of the data set.
        settings: The evaluation's settings.
    """

    dataset: str
    settings: EvalConfig

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """The diagnostics that the configuration asks for."""
        asked = self.settings.explain
        if asked is None:
            return []
        return [one for one in import_diagnostics(asked.files) if not one.switch or getattr(asked, one.switch)]

    def missing(self, subject: Subject, evaluation_key: str) -> list[Diagnostic]:
        """Return the diagnostics that a subject lacks, or that were computed differently."""
        if subject.kind == "bm25" or subject.role != "own":
            return []
        wanted = self.diagnostics
        record = ExplainRecord.find(subject.folder.explain_json(self.dataset)) if wanted else None
        found = {name: finding.key for name, finding in record.findings.items()} if record else {}
        return [one for one in wanted if found.get(one.name) != _key(one, subject, evaluation_key)]

    def write(self, given: Given, diagnostics: Sequence[Diagnostic]) -> str:
        """Compute diagnostics, add them to the subject's record, and return a summary."""
        path = given.subject.folder.explain_json(self.dataset)
        record = ExplainRecord.find(path) or ExplainRecord(dataset=self.dataset)
        new = {one.name: _finding(one, given) for one in diagnostics}
        order = [one.name for one in self.diagnostics]
        record.replace(findings=_ordered({**record.findings, **new}, order)).write(path)
        return f"{len(new)} diagnostics in {sum(one.seconds for one in new.values()):.1f} s"


def _finding(diagnostic: Diagnostic, given: Given) -> Finding:
    started = time.perf_counter()
    try:
        result = diagnostic.compute(given)
        measured = result if isinstance(result, Measured) else Measured(result or {})
        values = {name: float(value) for name, value in measured.values.items()}
        odd = [name for name, value in values.items() if not math.isfinite(value)]
        if odd:
            raise ValueError(f"the value of {odd[0]} is {values[odd[0]]}; leave it out")
        return Finding(
            key=_key(diagnostic, given.subject, given.record.key),
            meaning=diagnostic.meaning,
            values=values,
            per_query={name: dict(scores) for name, scores in measured.per_query.items()},
            seconds=time.perf_counter() - started,
        )
    except Exception as error:
        if not diagnostic.file or isinstance(error, ProjheadsError):
            raise
        # A user's file: its author needs one line, not our traceback.
        said = str(error).partition("\n")[0]
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ProjheadsError(
            f'the diagnostic "{diagnostic.name}" of eval.explain.files: {type(error).__name__}: {said} '
            f"({Path(where.filename).name} line {where.lineno})"
        ) from error


def _key(diagnostic: Diagnostic, subject: Subject, evaluation_key: str) -> str:
    about = [diagnostic.name, diagnostic.version, diagnostic.file, diagnostic.meaning.model_dump(mode="json")]
    return sha256_json([EXPLAIN_VERSION, evaluation_key, about, diagnostic.depends(subject)])


def _ordered(findings: Mapping[str, Finding], order: Sequence[str]) -> dict[str, Finding]:
    """Put findings in the order of the registry; those of diagnostics that are not computed any more come last."""
    names = [name for name in order if name in findings]
    return {name: findings[name] for name in dict.fromkeys([*names, *findings])}
