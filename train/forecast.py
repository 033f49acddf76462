"""What a dry run foresees: how many texts are truncated, and how long the experiment takes."""

from collections.abc import Sequence
from itertools import islice

from experiment.collections import check_source
from experiment.config import ExperimentConfig
from experiment.disk.layout import ExperimentFolder
from projheads.hosts.backbone import is_on_this_machine
from projheads.hosts.base import HostModel
from train.data.examples import load_training_data
from train.duration import describe_training
from train.embedding.way import choose_states, with_states
from train.eval_collections import known_test_queries, open_test_collections
from train.preparation import check_starts, prepare
from train.processes import Processes
from train.sweep import plan_sweeps
from train.trial import plan_trials

__all__ = ["forecast", "missing_data"]

SAMPLE = 256
"""Texts of each kind whose tokens are counted."""

MANY = 0.2
"""From this share of truncated texts on, the line is a warning."""


def forecast(config: ExperimentConfig) -> list[str]:
    """Return lines about truncation and time; nothing is trained, written or downloaded.

    If the data or the backbone are not on this machine yet, one line says so instead.

    Raises:
        ProjheadsError: If a head cannot start.
    """
    point, derived = config.points()[0]
    if missing_data(derived):
        return ["truncation and time are known once the data is on this disk"]
    if not is_on_this_machine(config.model.backbone, config.model.settings()):
        return [f"truncation and time are known once {config.model.backbone} is on this machine"]
    data = load_training_data(derived)
    prepared, folder = prepare(derived, data, point), ExperimentFolder(config.output)
    check_starts(prepared, config)
    way = choose_states(prepared, folder, Processes())
    prepared = with_states(prepared, way)
    model = prepared.model
    lines = [
        *_truncated(config, model, "training queries", data.queries, is_query=True),
        *_truncated(config, model, "training documents", data.documents, is_query=False),
    ]
    tests = open_test_collections(config)
    for name, collection in tests.items():
        documents = [document.passage for document in islice(collection.corpus.values(), SAMPLE)]
        lines += _truncated(config, model, f"documents of {name}", documents, is_query=False)
    lines += known_test_queries(tests, data)
    trials = (
        [trial for sweep in plan_sweeps(prepared, folder) for trial in sweep.expected()] if config.sweep.grid else []
    )
    pending = [trial for trial in trials or plan_trials(prepared, folder) if not trial.finished]
    if pending:
        axes = " for each point of the axes" if config.axes else ""
        lines += [line + axes for line in describe_training(prepared, pending, tests, way)]
    return lines


def missing_data(config: ExperimentConfig) -> list[str]:
    """Name what a point of an experiment reads that is not on this disk yet; nothing is loaded or downloaded.

    Raises:
        ProjheadsError: If a source cannot be used.
    """
    train, cache = config.train, config.cache
    sources = [dataset.source for dataset in config.eval.datasets]
    sources += [str(one.source) for one in train.validation]
    read = [line for stage in (train, *train.following()) for line in stage.data.warnings(cache)]
    return list(dict.fromkeys([*read, *filter(None, (check_source(source, cache=cache) for source in sources))]))


def _truncated(
    config: ExperimentConfig, model: HostModel, what: str, texts: Sequence[str], *, is_query: bool
) -> list[str]:
    """Say which share of a sample of texts loses tokens; nothing if none does."""
    sample = texts[:: max(1, len(texts) // SAMPLE)][:SAMPLE]
    share = model.count_truncated(sample, is_query=is_query) / len(sample) if sample else 0.0
    if share == 0:
        return []
    name = "query_length" if is_query else "document_length"
    length = config.model.query_length if is_query else config.model.document_length
    line = f"about {100 * share:.0f}% of the {what} are longer than model.{name}={length} tokens and are truncated"
    return [f"warning: {line}; raise it to use their ends" if share > MANY else line]
