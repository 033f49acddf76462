"""What a dry run, and a training before its first trial, say about the disk, memory, operations and time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiment.collections import Collection
from experiment.console.progress import human_time
from experiment.encoding.speed import seconds_of_products
from experiment.needs import describe_times, describe_ways
from projheads.errors import ProjheadsError
from train.embedding.states import states_are_cached
from train.embedding.way import StatesWay
from train.failures import trial_errors
from train.preparation import Preparation
from train.training_work import Training, TrainingWork
from train.trial import Trial

__all__ = ["Duration", "describe_training"]


@dataclass(frozen=True)
class Duration:
    """What the trials of one point of an experiment take.

    Attributes:
        lines: What to print; the last line says how long everything takes, with the evaluation afterwards.
        training_s: Seconds of the training, with the token states.
        encoding_s: Seconds to encode each test collection once.
        evaluation_s: Seconds of the evaluation, with this encoding.
    """

    lines: Sequence[str]
    training_s: float = 0.0
    encoding_s: float = 0.0
    evaluation_s: float = 0.0


def describe_training(
    prepared: Preparation,
    pending: Sequence[Trial],
    tests: Mapping[str, Collection],
    way: StatesWay | None,
    *,
    stored: bool = False,
) -> Duration:
    """Time this machine briefly; return what training takes, both ways if the backbone is frozen.

    Args:
        prepared: What the trials share.
        pending: The trials that are not trained yet, at least one.
        tests: The test collections that are on this disk, by name.
        way: What becomes of the token states; None if the backbone is trained.
        stored: Whether an earlier point stores the token states.
    """
    try:
        with trial_errors():
            cached = stored or states_are_cached(prepared)
            return _describe(TrainingWork(prepared, pending), tests, way, cached=cached)
    except ProjheadsError as error:  # such a trial fails too, but the others may not
        return Duration([f"disk, memory and time cannot be estimated: {error}"])


def _describe(work: TrainingWork, tests: Mapping[str, Collection], way: StatesWay | None, *, cached: bool) -> Duration:
    if way is None:
        chosen = work.stored(work.models(), cached=cached)
        lines = [f"training: {chosen.need}; {_operations_and_times(chosen)}"]
    else:
        ways = {"stored": work.stored(way.stored_bytes, cached=cached), "lockstep": work.lockstep(way.kept_bytes)}
        other = "stored" if way.states == "lockstep" else "lockstep"
        chosen = ways[way.states]
        described = describe_ways((way.states, chosen.need), way.reason, (other, ways[other].need))
        lines = [
            f"token states of the training texts {described}",
            "training " + "; ".join(f"{name}: {_operations_and_times(one)}" for name, one in ways.items()),
        ]
    training, (encoding, evaluation) = chosen.seconds_on(1), _evaluation_s(work, tests.values())
    parts = [f"{human_time(chosen.encode_s)} for the backbone's token states"] if chosen.encode_s else []
    parts += [f"{human_time(training - chosen.encode_s)} for training"]
    parts += [f"{human_time(evaluation)} for the evaluation afterwards"]
    lines.append(f"this will take roughly {human_time(training + evaluation)}: {', '.join(parts)}")
    return Duration(lines, training, encoding, evaluation)


def _operations_and_times(training: Training) -> str:
    return f"{training.need.flop:.1e} floating-point operations, on this machine {describe_times(training.seconds_on)}"


def _evaluation_s(work: TrainingWork, tests: Iterable[Collection]) -> tuple[float, float]:
    """Estimate the seconds of encoding once, and of the evaluation, assuming texts as long as the training texts."""
    config, (first, *_) = work.prepared.config, work.stages
    costs = [work.costs[spec] for spec, _ in {(str(trial.spec), trial.seed) for trial in work.pending}]
    encoding = projecting = 0.0
    for collection in tests:
        encoding += first.encoding(len(collection.queries), len(collection.corpus))
        tokens = len(collection.corpus) * first.documents.tokens
        search = len(collection.queries) * first.queries.tokens * tokens * config.heads.out_features
        projecting += seconds_of_products(sum(tokens * cost + search for cost in costs), work.prepared.model.device)
    times = 1 if config.train.trainable == "head" else len(costs)
    return encoding, times * encoding + projecting
