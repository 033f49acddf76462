"""Results of other programs: TREC runs, ranx runs, mteb's predictions and mteb's results, next to an experiment's.

A run is scored with the judgements of the experiment that it is compared with, so its verdict is per query. A result
file of mteb has means only: it becomes a reference row, without a verdict.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.measures import aggregate, measure_run
from eval.report.results import Evaluation, Experiment, Reference, Trial
from eval.runs import Run, in_trec_order, read_qrels, read_run
from experiment.collections.mteb_tasks import task_of_source
from experiment.disk.files import sha256_file
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import (
    DatasetFacts,
    EvaluationBytes,
    EvaluationRecord,
    EvaluationTimings,
    IndexFacts,
    ReferenceRecord,
    TextCounts,
    TrialRecord,
)
from projheads.errors import ProjheadsError

__all__ = ["is_foreign", "load_foreign", "mteb_name"]

TREC = (".run", ".trec", ".txt", ".tsv", ".res")
RANX = (".lz4", ".npz", ".parq", ".parquet")
META = "model_meta.json"

MTEB_MEASURES = {"nDCG": "ndcg", "AP": "map", "R": "recall", "P": "precision", "RR": "mrr", "Success": "hit_rate"}
"""What mteb calls a measure of ir-measures."""


@dataclass
class Found:
    """What the files of one model hold.

    Attributes:
        label: Its name.
        runs: By data set, what was found for each query.
        means: By data set, the means of measures, by their names here.
        files: By data set, the file.
    """

    label: str
    runs: dict[str, Run] = field(default_factory=dict)
    means: dict[str, dict[str, float]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


def mteb_name(measure: str) -> str | None:
    """Return mteb's name of a measure: ``ndcg_at_10`` for ``nDCG@10``; None if it has none."""
    name, at, cutoff = measure.partition("@")
    return f"{MTEB_MEASURES[name]}_at_{cutoff}" if at and cutoff.isdigit() and name in MTEB_MEASURES else None


def is_foreign(path: Path) -> bool:
    """Return whether a path is a file, or a folder that is not an experiment's and holds files of results."""
    if path.is_dir():
        return not (path / "trials").is_dir() and any(_result_files(path))
    return path.is_file()


def load_foreign(path: Path, beside: Experiment) -> Experiment:
    """Read the results of one model.

    Args:
        path: A file named after a data set, a model's folder with such files, or a model's folder of mteb's results.
        beside: The experiment to compare with; its data sets and judgements are used.

    Raises:
        ProjheadsError: If a file is damaged or is not of a known format, or nothing is about a data set of the
            experiment.
    """
    found = Found(label=path.stem if path.is_file() else path.resolve().name)
    files = [path] if path.is_file() else list(_result_files(path))
    for file in files:
        _read(file, beside, found, alone=len(files) == 1)
    if not found.runs and not found.means:
        names = ", ".join(beside.datasets)
        raise ProjheadsError(
            f"{path}: has no results on a data set of {beside.name}; name a file after one of: {names}"
        )
    facts = _facts(beside)
    evaluations = {
        name: _evaluation(found, name, facts[name], beside) for name in found.runs if _qrels(beside, name).is_file()
    }
    lacking = [name for name in found.runs if name not in evaluations]
    if lacking and not evaluations:
        raise ProjheadsError(f"{_qrels(beside, lacking[0])}: no such file; evaluate {beside.path} again to write it")
    means = {
        name: _reference(found, name, facts[name], beside)
        for name, values in found.means.items()
        if name not in evaluations and values.keys() >= set(beside.measures[:1])
    }
    # What mteb reports may lack some measures of the experiment; those are left out of the comparison.
    shared = [
        measure
        for measure in beside.measures
        if all(measure in one.record.measures for one in (*evaluations.values(), *means.values()))
    ]
    trials = (Trial(_record(found.label, evaluations), (), evaluations),) if evaluations else ()
    about = "means that mteb reported; without scores per query there is no verdict"
    reference = Reference(ReferenceRecord(name=found.label, description=about, seed=0), means)
    return Experiment(
        path=path,
        name=found.label,
        description="",
        config_text="",
        measures=tuple(shared),
        datasets=tuple(name for name in beside.datasets if name in evaluations or name in means),
        trials=trials,
        references=() if evaluations else (reference,),
        command="",
        lengths={},
    )


def _result_files(folder: Path) -> Iterator[Path]:
    known = (".json", *TREC, *RANX)
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and file.suffix in known and not hidden and file.name != "qrels.json":
            yield file


def _read(file: Path, beside: Experiment, found: Found, *, alone: bool) -> None:
    """Read one file into ``found``; one that is about none of the data sets is skipped, unless it is the only one."""

    def dataset(name: str) -> str | None:
        return _dataset(name, beside) or (beside.datasets[0] if alone and len(beside.datasets) == 1 else None)

    if file.suffix in TREC:
        if name := dataset(file.stem):
            found.runs[name], found.files[name] = read_run(file), file
        return
    if file.suffix in RANX:
        if name := dataset(file.stem):
            found.runs[name], found.files[name] = _ordered(_read_ranx(file), file), file
        return
    value = _read_json(file)
    if file.name == META:
        found.label = str(value.get("name", found.label))
    elif "task_name" in value and "scores" in value:
        if name := _dataset(str(value["task_name"]), beside):
            found.means[name], found.files[name] = _mteb_means(value, file), file
    elif "mteb_model_meta" in value:
        found.label = str(value["mteb_model_meta"].get("model_name", found.label))
        if name := dataset(file.stem.removesuffix("_predictions")):
            found.runs[name], found.files[name] = _ordered(_only_split(value, beside, name, file), file), file
    elif name := dataset(file.stem):
        found.runs[name], found.files[name] = _ordered(value, file), file


def _dataset(name: str, beside: Experiment) -> str | None:
    """Return the data set that a file's name or a task of mteb means."""
    facts = _facts(beside)
    for dataset in beside.datasets:
        names = [dataset, task_of_source(facts[dataset].source) or ""] if dataset in facts else [dataset]
        if _plain(name) in map(_plain, filter(None, names)):
            return dataset
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _facts(beside: Experiment) -> dict[str, DatasetFacts]:
    return {
        name: evaluation.record.dataset
        for evaluations in reversed(beside.evaluations())
        for name, evaluation in evaluations.items()
    }


def _qrels(beside: Experiment, dataset: str) -> Path:
    return ExperimentFolder(beside.path).qrels(dataset)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ProjheadsError(f"{file}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise ProjheadsError(f"{file}: is neither a run (query -> document -> score) nor a result of mteb")
    return value


def _read_ranx(file: Path) -> Mapping[str, Any]:
    try:
        from ranx import Run as RanxRun
    except ModuleNotFoundError:
        raise ProjheadsError(f"{file}: needs ranx to be read; pip install ranx, or save the run as .json") from None
    try:
        read: Mapping[str, Any] = RanxRun.from_file(str(file)).to_dict()
    except Exception as error:  # numba, lz4 and pandas fail in ways of their own
        raise ProjheadsError(f"{file}: ranx cannot read it as a run ({error})") from None
    return read


def _ordered(value: Mapping[str, Any], file: Path) -> Run:
    """Check that a value is a run, and order it as trec_eval does."""
    run = {}
    for query, scores in value.items():
        try:
            numbers = {str(name): float(score) for name, score in scores.items()}
        except (AttributeError, TypeError, ValueError):
            raise ProjheadsError(f'{file}: query "{query}": must map documents to scores') from None
        if any(score != score or abs(score) == float("inf") for score in numbers.values()):
            raise ProjheadsError(f'{file}: query "{query}": a score is not a finite number')
        run[query] = in_trec_order(numbers) if numbers else []
    return run


def _only_split(value: Mapping[str, Any], beside: Experiment, dataset: str, file: Path) -> Mapping[str, Any]:
    """Return the predictions of the data set's split in a file of mteb's predictions."""
    wanted = _facts(beside)[dataset].split
    subsets = [one for name, one in value.items() if name != "mteb_model_meta" and isinstance(one, dict)]
    found = [subset[wanted] for subset in subsets if wanted in subset]
    if len(found) != 1:
        raise ProjheadsError(f"{file}: has {len(found)} subsets with predictions of the split {wanted}, not one")
    return dict(found[0])


def _mteb_means(value: Mapping[str, Any], file: Path) -> dict[str, float]:
    """Return the means of a result file by the names of the measures here; those of several subsets are averaged."""
    try:
        entries = [entry for split in value["scores"].values() for entry in split]
        known = {f"{theirs}_at_": ours for ours, theirs in MTEB_MEASURES.items()}
        means: dict[str, float] = {}
        for name in entries[0]:
            prefix, cutoff = re.match(r"(.*_at_|)(.*)", name).groups()  # type: ignore[union-attr]
            if prefix in known and cutoff.isdigit():
                means[f"{known[prefix]}@{cutoff}"] = sum(float(entry[name]) for entry in entries) / len(entries)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise ProjheadsError(f"{file}: is not a result of mteb 1.11 or newer") from None
    return means


def _evaluation(found: Found, dataset: str, facts: DatasetFacts, beside: Experiment) -> Evaluation:
    qrels = read_qrels(_qrels(beside, dataset))
    measures = measure_run(beside.measures, qrels, found.runs[dataset])
    depth = max(map(len, found.runs[dataset].values()), default=0)
    return Evaluation(_made(found.files[dataset], facts, measures, depth), found.files[dataset])


def _reference(found: Found, dataset: str, facts: DatasetFacts, beside: Experiment) -> Evaluation:
    """Give every query the mean, so that the row shows it; reference rows have no verdict."""
    means = {name: found.means[dataset][name] for name in beside.measures if name in found.means[dataset]}
    queries = next(one[dataset].record.queries for one in beside.evaluations() if dataset in one)
    measures = {name: dict.fromkeys(queries, mean) for name, mean in means.items()}
    return Evaluation(_made(found.files[dataset], facts, measures, 0), found.files[dataset])


def _made(file: Path, facts: DatasetFacts, measures: dict[str, dict[str, float]], depth: int) -> EvaluationRecord:
    return EvaluationRecord(
        key=sha256_file(file),
        dataset=facts,
        index=IndexFacts(kind="given", depth=depth),
        measures=measures,
        means={name: aggregate(name, scores) for name, scores in measures.items()},
        timings=EvaluationTimings(encode_s=0.0, index_s=0.0, search_s=0.0),
        bytes=EvaluationBytes(token_vectors=0, index=0),
        truncated=TextCounts(queries=0, documents=0),
    )


def _record(label: str, evaluations: Mapping[str, Evaluation]) -> TrialRecord:
    """Make the record of a model of which only the results are known; its cost is 0, which tables leave out."""
    return TrialRecord(
        status="finished",
        label=label,
        slug=label,
        checkpoint=label,
        is_baseline=False,
        seed=0,
        in_features=0,
        out_features=0,
        weights_hash="".join(one.record.key for one in evaluations.values())[:64],
        host="unknown",
        parameters=0,
        multiply_adds=0,
        folds=False,
    )
