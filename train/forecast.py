"""What a dry run foresees: how many texts are truncated, and how long the experiment takes."""

from collections.abc import Mapping, Sequence
from itertools import islice

from experiment.collections import Collection, check_source
from experiment.config import ExperimentConfig, TrainConfig
from experiment.config.grid import Point
from experiment.console.progress import human_time
from experiment.disk.files import sha256_json
from experiment.disk.layout import ExperimentFolder
from projheads.hosts.backbone import is_on_this_machine
from projheads.hosts.base import HostModel
from train.data.examples import load_training_data
from train.duration import describe_training
from train.embedding.states import state_keys
from train.embedding.way import choose_states, with_states
from train.eval_collections import known_test_queries, open_test_collections
from train.preparation import Preparation, check_starts, prepare
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
    points = config.points()
    for _, derived in points:
        if missing_data(derived):
            return ["truncation and time are known once the data is on this disk"]
        if not is_on_this_machine(derived.model.backbone, derived.model.settings()):
            return [f"truncation and time are known once {derived.model.backbone} is on this machine"]
    tests, lines, times = open_test_collections(config), dict[str, None](), _Times()
    counted: set[str] = set()
    trained_with: TrainConfig | None = None
    for place, (point, derived) in enumerate(points):
        if derived.train != trained_with:  # otherwise the data is that of the point before
            data, trained_with = load_training_data(derived), derived.train
        prepared = prepare(derived, data, point)
        if place == 0:
            check_starts(prepared, config)
        of = f"{derived.model} {derived.train.data}"
        if of not in counted:
            counted.add(of)
            lines |= dict.fromkeys(_truncated_texts(prepared, tests))
        lines |= dict.fromkeys(known_test_queries(tests, data))
        times.add(prepared, ExperimentFolder(config.output), tests)
    return [*lines, *times.lines()]


class _Times:
    """How long the points of an experiment take, each after the others, with what they share counted once."""

    def __init__(self) -> None:
        self._described: list[tuple[Point, Sequence[str]]] = []
        self._seconds = 0.0
        self._states: set[str] = set()
        self._encoded: set[str] = set()

    def add(self, prepared: Preparation, folder: ExperimentFolder, tests: Mapping[str, Collection]) -> None:
        """Time the trials of a point that are not trained yet."""
        way = choose_states(prepared, folder, Processes())
        prepared = with_states(prepared, way)
        sweeps = plan_sweeps(prepared, folder) if prepared.config.sweep.grid else []
        trials = [trial for sweep in sweeps for trial in sweep.expected()] or plan_trials(prepared, folder)
        pending = [trial for trial in trials if not trial.finished]
        if not pending:
            return
        keys = set(state_keys(prepared))
        stored = bool(keys) and keys <= self._states
        duration = describe_training(prepared, pending, tests, way, stored=stored)
        self._described.append((prepared.point, duration.lines))
        self._seconds += duration.training_s + duration.evaluation_s
        if way is None or way.states == "stored":
            self._states |= keys
        if prepared.config.train.trainable == "head":
            encodes = sha256_json([prepared.backbone_hash, prepared.config.model.key_values()])
            if encodes in self._encoded:  # one pass over a collection serves the heads of all points
                self._seconds -= duration.encoding_s
            self._encoded.add(encodes)

    def lines(self) -> list[str]:
        """Return the lines of each point, and what all take together."""
        lines = [f"{point}: {line}" if point.values else line for point, lines in self._described for line in lines]
        if len(self._described) < 2:
            return lines
        return [*lines, f"all {len(self._described)} points of the axes will take roughly {human_time(self._seconds)}"]


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


def _truncated_texts(prepared: Preparation, tests: Mapping[str, Collection]) -> list[str]:
    """Say which texts of the training and of the tests lose tokens."""
    config, model, data = prepared.config, prepared.model, prepared.data
    lines = [
        *_truncated(config, model, "training queries", data.queries, is_query=True),
        *_truncated(config, model, "training documents", data.documents, is_query=False),
    ]
    for name, collection in tests.items():
        documents = [document.passage for document in islice(collection.corpus.values(), SAMPLE)]
        lines += _truncated(config, model, f"documents of {name}", documents, is_query=False)
    return lines


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
