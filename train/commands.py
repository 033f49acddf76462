"""The commands of ``python -m train``."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from experiment.collections import check_source, open_collection
from experiment.collections.same_ids import ExcludeOwnId
from experiment.config import ExperimentConfig
from experiment.config.load import dump_config, load_config, override_heads
from experiment.console.progress import Progress
from experiment.disk.layout import ExperimentFolder, check_can_be_folder
from experiment.encoding.device import pick_device
from experiment.executors.options import open_executor
from experiment.rounds import planned_seeds, planned_trials
from projheads.errors import ProjheadsError
from projheads.hosts.base import OpenOptions
from projheads.hosts.model_folder import is_stock
from train.data.mine import Mining, mine
from train.data.tuples import draw_examples, example_generator
from train.data.tuples_file import read_about, read_tuples
from train.processes import is_main_process
from train.trackers import check_trackers

__all__ = ["mine_command", "print_plan", "say_opening", "teach_command", "train_command"]


def train_command(options: argparse.Namespace) -> dict[str, Any] | None:
    """Train an experiment, once its configuration is checked.

    Returns:
        The trials with their records, and the names of those that failed; None in a process that only helps.

    Raises:
        ProjheadsError: If the configuration, the data or the output folder cannot be used.
    """
    config = load_config(options.config, [*override_heads(options.heads), *options.overrides])
    check_trackers(config.train.trackers)
    if options.dry_run:
        return print_plan(config, options.config)
    from train.experiment import train_experiment

    say_opening(config)
    with open_executor(options) as executor:
        failed = train_experiment(config, executor)
    if not is_main_process():
        return {"failed": failed} if failed and not options.json else None
    if not failed:
        print_opening_advice(config)
        print(f"trials are in {config.output}; next: python -m eval {shlex.quote(str(options.config))}")
    records = {trial.path: trial.read_trial() for trial in planned_trials(config)}
    trials = [
        {"folder": str(path), **record.model_dump(mode="json")}
        for path, record in records.items()
        if record is not None
    ]
    return {"output": str(config.output), "trials": trials, "failed": failed}


def say_opening(config: ExperimentConfig) -> None:
    """Say at once what takes the time until the first estimate, and how the heads start if that is a choice."""
    if is_main_process():
        for line in _start(config):
            print(line)
        print(f"opening the training data and {config.model.backbone}; an estimate of the time follows", flush=True)


def _start(config: ExperimentConfig) -> list[str]:
    """Say why the heads start as they do; nothing if the configuration says it, or they start in the usual way."""
    line = None if "heads.init" in config.axes else config.heads.why_torch
    return [line] if line else []


def print_opening_advice(config: ExperimentConfig) -> None:
    """Name the variants whose models open only with projheads, and say how to make models that open without it."""
    models = {
        record.label: trial.model
        for trial in ExperimentFolder(config.output).trials()
        if (record := trial.read_trial()) is not None and trial.model.is_dir()
    }
    trained = [label for label in map(str, config.heads.variants) if label in models]
    ours = [label for label in trained if not is_stock(models[label])]
    if ours:
        others = "; the others open in the plain host" if len(ours) < len(trained) else ""
        print(
            f"models of {', '.join(ours)} open where projheads is installed; for a model that opens without it: "
            f"python -m projheads fold MODEL OUT, or export MODEL OUT --to onnx{others}"
        )


def print_plan(config: ExperimentConfig, path: Path) -> dict[str, Any]:
    """Print the resolved YAML, and on the error stream what would be trained.

    Args:
        config: The experiment.
        path: Its file.

    Returns:
        The same as a JSON value.

    Raises:
        ProjheadsError: If a collection cannot be used.
    """
    from train.forecast import forecast, missing_data

    print(dump_config(config), end="")
    folder, points = ExperimentFolder(config.output), config.points()
    warnings = list(dict.fromkeys(line for _, derived in points for line in missing_data(derived)))
    for written in (config.output, config.cache):
        check_can_be_folder(written)
    try:
        pick_device(config.device)
    except ProjheadsError as error:
        warnings.append(str(error))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for line in _start(config):
        print(line, file=sys.stderr)
    planned = [planned_seeds(derived, folder, point.values) for point, derived in points]
    counts = sorted(len(seeds) for rows in planned for seeds in rows.values())
    seeds = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    compared = f" x {len(points)} points of the axes" if config.axes else ""
    more = f", then up to {len(config.seeds)} in rounds" if config.question else ""
    swept = config.describe_sweep(counts[-1])
    grows = ", and more for a variant whose choice is at the edge of its grid" * bool(swept and config.sweep.extend)
    trials = config.count_trials(counts)
    print(
        f"{path}: {len(config.heads.variants)} variants{compared}{swept} x {seeds} seeds{more} into {config.output}; "
        f"{trials} trials{grows}",
        file=sys.stderr,
    )
    foreseen = forecast(config)
    for line in foreseen:
        print(line, file=sys.stderr)
    return {"config": config.model_dump(mode="json"), "trials": trials, "warnings": warnings, "forecast": foreseen}


def mine_command(options: argparse.Namespace) -> dict[str, Any]:
    """Mine hard negatives.

    Returns:
        What was written, see ``_made``, or would be.

    Raises:
        ProjheadsError: If the collection, an option or the output cannot be used.
    """
    if (options.config is None) == (options.source is None):
        raise ProjheadsError("mine: give either an experiment's YAML file or --source")
    source, split, cache = options.source, options.split, options.cache
    exclude: ExcludeOwnId = "auto"
    if options.config is not None:
        config = load_config(options.config)
        data, cache = config.train.data, config.cache
        source, split, exclude = data.source, data.split, data.exclude_own_id
    if source is None:
        raise ProjheadsError(f"{options.config}: train.data has no `source` to mine")
    if options.from_rank < 1 or not (1 <= options.negatives <= options.to_rank - options.from_rank + 1):
        raise ProjheadsError(
            f"mine: --negatives {options.negatives} do not fit into ranks {options.from_rank} to {options.to_rank}"
        )
    _check_out(options, "made_by")
    warning = check_source(source, cache=cache)
    if options.dry_run:
        print(
            f"{source} ({split}) -> {options.out}: {options.negatives} negatives per pair from BM25 ranks "
            f"{options.from_rank} to {options.to_rank}" + (f"\nwarning: {warning}" if warning else "")
        )
        return {"out": str(options.out), "source": source, "split": split, "warning": warning}
    with Progress() as progress:
        mining = Mining(options.negatives, options.from_rank, options.to_rank, exclude)
        collection = open_collection(source, split=split, cache=cache)
        if _is_complete(options, mining.about(collection, source)):
            progress.say(f"{options.out}: already complete")
            return _made(options.out)
        mine(collection, source, mining, options.out, progress)
        progress.say(f"{options.out}: {mining}")
    return _made(options.out)


def teach_command(options: argparse.Namespace) -> dict[str, Any]:
    """Add a teacher's scores to a file of tuples.

    Returns:
        What was written, see ``_made``, or would be.

    Raises:
        ProjheadsError: If the file, the teacher or the output cannot be used.
    """
    from train.data.teach import Teaching, teach
    from train.data.teacher import kind_of_teacher, open_teacher

    if options.batch_size < 1:
        raise ProjheadsError(f"teach: --batch-size must be at least 1, not {options.batch_size}")
    if options.max_pairs is not None and options.max_pairs < 1:
        raise ProjheadsError(f"teach: --max-pairs must be at least 1, not {options.max_pairs}")
    _check_out(options, "taught_by")
    opening = OpenOptions(options.revision, options.trust_remote_code)
    kind, _ = kind_of_teacher(options.model, opening)
    about = read_about(options.file)
    source, split = options.source or about.get("source"), options.split or about.get("split", "train")
    collection = open_collection(source, split=split, cache=options.cache) if source else None
    tuples = read_tuples(options.file, n_ways=None, collection=collection)
    if options.dry_run:
        tuples = tuples.take(draw_examples(len(tuples.rows), options.max_pairs, example_generator()))
        print(
            f"{options.file} -> {options.out}: {len(tuples.rows)} tuples of {tuples.rows.shape[1] - 1} documents, "
            f"{len(tuples.queries)} queries and {len(tuples.documents)} documents, by the {kind} {options.model}"
        )
        return {"out": str(options.out), "tuples": len(tuples.rows), "teacher": options.model, "kind": kind}
    with Progress() as progress:
        teacher = open_teacher(
            options.model,
            opening,
            device=options.device,
            batch_size=options.batch_size,
            query_prefix=options.query_prefix,
            document_prefix=options.document_prefix,
        )
        teaching = Teaching(options.file, tuples, teacher, options.max_pairs)
        if _is_complete(options, teaching.about()):
            progress.say(f"{options.out}: already complete")
            return _made(options.out)
        progress.say(f"{options.out}: {teach(teaching, options.out, progress)}")
    return _made(options.out)


def _made(path: Path) -> dict[str, Any]:
    """Describe a file of tuples: how it was made, and how many there are."""
    with path.open("rb") as lines:
        return {"out": str(path), "tuples": sum(1 for _ in lines) - 1, **read_about(path)}


def _check_out(options: argparse.Namespace, maker: str) -> None:
    """Refuse a bad name, and at once an existing file that no such command has made."""
    if options.out.suffix != ".jsonl":
        raise ProjheadsError(f"--out {options.out}: the name of a file of tuples must end in .jsonl")
    if options.out.is_dir():
        raise ProjheadsError(f"--out {options.out}: is a folder")
    if options.out.exists() and not options.force and maker not in _about(options.out):
        raise _exists(options.out)


def _is_complete(options: argparse.Namespace, about: dict[str, Any]) -> bool:
    """Return whether the output file is this command's own result; a different file is refused without --force."""
    if options.force or not options.out.exists():
        return False
    if _about(options.out) != about:
        raise _exists(options.out)
    return True


def _about(path: Path) -> dict[str, Any]:
    try:
        return read_about(path)
    except ProjheadsError:
        return {}  # not a file of tuples


def _exists(path: Path) -> ProjheadsError:
    return ProjheadsError(f"--out {path}: exists and is not the result of this command; add --force to overwrite it")
