"""Results in the formats of other programs: mteb's result cache, and ranx's runs and judgements."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.foreign import mteb_name
from eval.report.reading import load_experiment
from eval.report.results import Evaluation, Experiment
from eval.runs import read_qrels
from experiment.collections.mteb_tasks import MTEB_TASKS, task_of_source
from experiment.disk.files import versions, write_json
from experiment.disk.layout import ExperimentFolder
from projheads.errors import ProjheadsError, unknown_name

__all__ = ["FORMS", "export_results"]


@dataclass(frozen=True)
class Row:
    """One trial or reference row: its name, a hash of its model, and its evaluations of single collections."""

    name: str
    revision: str
    evaluations: list[Evaluation]


def export_results(folder: Path, out: Path, form: str) -> list[Path]:
    """Write the results of an experiment, or of given models, for another program.

    Args:
        folder: The folder of the results.
        out: The folder to write; files of the same names are replaced.
        form: ``mteb`` or ``ranx``.

    Returns:
        The files.

    Raises:
        ProjheadsError: If the form is unknown, or there are no results.
    """
    if form not in FORMS:
        raise unknown_name("format", form, FORMS)
    experiment = load_experiment(folder)
    rows = list(_rows(experiment))
    if not any(row.evaluations for row in rows):
        raise ProjheadsError(f"{folder}: holds no evaluation; run python -m eval {folder}")
    return FORMS[form](experiment, rows, out)


def _rows(experiment: Experiment) -> Iterator[Row]:
    for trial in experiment.trials:
        name = trial.record.checkpoint or f"{experiment.name}/{trial.label} seed {trial.seed}"
        yield Row(name, str(trial.record.weights_hash)[:40], _single(trial.evaluations))
    for reference in experiment.references:
        name = f"{experiment.name}/{reference.label} seed {reference.record.seed}"
        yield Row(name, (reference.record.weights_hash or "none")[:40], _single(reference.evaluations))


def _single(evaluations: Mapping[str, Evaluation]) -> list[Evaluation]:
    """List the evaluations of single collections, those of a group one by one."""
    return [one for each in evaluations.values() for one in (each.parts.values() or [each])]


def _write_mteb(experiment: Experiment, rows: list[Row], out: Path) -> list[Path]:
    """Write ``results/<model>/<revision>/<task>.json``, as mteb's ``ResultCache(out)`` reads them."""
    written = []
    for row in rows:
        folder = out / "results" / _file_name(row.name.replace("/", "__")) / row.revision
        tasks: dict[str, dict[str, Any]] = {}
        for evaluation in row.evaluations:
            name, value = _mteb_task(evaluation)
            known = tasks.setdefault(name, value)
            if known is not value:  # the parts of one task
                for split, scores in value["scores"].items():
                    known["scores"].setdefault(split, []).extend(scores)
                known["evaluation_time"] += value["evaluation_time"]
        for name, value in tasks.items():
            write_json(folder / f"{_file_name(name)}.json", value)
            written.append(folder / f"{_file_name(name)}.json")
        meta = {"name": row.name, "revision": row.revision, "framework": ["PyTorch"], "similarity_fn_name": "MaxSim"}
        write_json(folder / "model_meta.json", meta | {"loader": None, "languages": None, "n_parameters": None})
        written.append(folder / "model_meta.json")
    return written


def _mteb_task(evaluation: Evaluation) -> tuple[str, dict[str, Any]]:
    """Return the name of a task and its results as mteb's TaskResult."""
    record = evaluation.record
    dataset, timings = record.dataset, record.timings
    known = task_of_source(dataset.source)
    task = MTEB_TASKS.get(known or "")
    pinned = task is not None and task.same_as != dataset.source
    scores: dict[str, Any] = {mteb_name(name) or name: mean for name, mean in record.means.items()}
    main = scores.get("ndcg_at_10", next(iter(scores.values())))
    subset = task.subset if task else "default"
    # mteb's own scores are computed on its copy of the data; ours are identified by the content that was read.
    revision = task.revision if task and pinned else f"sha256-{dataset.hash[:32]}"
    name = known.partition("/")[0] if known else dataset.name
    entry = scores | {"main_score": main, "hf_subset": subset, "languages": ["eng-Latn" if task else "und-Zyyy"]}
    return name, {
        "dataset_revision": revision,
        "task_name": name,
        "mteb_version": None,
        "projheads_version": versions({"projheads": "projheads"})["projheads"],
        "scores": {dataset.split: [entry]},
        "evaluation_time": timings.encode_s + timings.index_s + timings.search_s,
        "kg_co2_emissions": None,
    }


def _write_ranx(experiment: Experiment, rows: list[Row], out: Path) -> list[Path]:
    """Write ``<dataset>/qrels.json`` and ``<dataset>/<row>.json``, as ranx's ``from_file`` reads them."""
    written: list[Path] = []
    for row in rows:
        for evaluation in row.evaluations:
            name = evaluation.record.dataset.name
            file = out / name / f"{_file_name(row.name.partition('/')[2] or row.name)}.json"
            write_json(file, {query: dict(found) for query, found in evaluation.read_run().items()})
            qrels = ExperimentFolder(experiment.path).qrels(name)
            if out / name / "qrels.json" not in written and qrels.is_file():
                write_json(out / name / "qrels.json", read_qrels(qrels))
                written.append(out / name / "qrels.json")
            written.append(file)
    return written


FORMS: dict[str, Callable[[Experiment, list[Row], Path], list[Path]]] = {"mteb": _write_mteb, "ranx": _write_ranx}
"""The formats by name."""


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=@-]+", "-", text).strip("-.") or "results"
