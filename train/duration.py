"""What a dry run, and a training before its first trial, say about the disk, memory, operations and time."""

from collections.abc import Iterable, Mapping, Sequence

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

__all__ = ["describe_training"]


def describe_training(
    prepared: Preparation, pending: Sequence[Trial], tests: Mapping[str, Collection], way: StatesWay | None
) -> list[str]:
    """Time this machine briefly; return lines about what training takes, both ways if the backbone is frozen.

    The last line says how long everything takes, with the evaluation afterwards.

    Args:
        prepared: What the trials share.
        pending: The trials that are not trained yet, at least one.
        tests: The test collections that are on this disk, by name.
        way: What becomes of the token states; None if the backbone is trained.
    """
    try:
        with trial_errors():
            return _describe(TrainingWork(prepared, pending), tests, way)
    except ProjheadsError as error:  # such a trial fails too, but the others may not
        return [f"disk, memory and time cannot be estimated: {error}"]


def _describe(work: TrainingWork, tests: Mapping[str, Collection], way: StatesWay | None) -> list[str]:
    cached = states_are_cached(work.prepared)
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
    training, evaluation = chosen.seconds_on(1), _evaluation_s(work, tests.values())
    parts = [f"{human_time(chosen.encode_s)} for the backbone's token states"] if chosen.encode_s else []
    parts += [f"{human_time(training - chosen.encode_s)} for training"]
    parts += [f"{human_time(evaluation)} for the evaluation afterwards"]
    return [*lines, f"this will take roughly {human_time(training + evaluation)}: {', '.join(parts)}"]


def _operations_and_times(training: Training) -> str:
    return f"{training.need.flop:.1e} floating-point operations, on this machine {describe_times(training.seconds_on)}"


def _evaluation_s(work: TrainingWork, tests: Iterable[Collection]) -> float:
    """Estimate the seconds of the evaluation, assuming texts as long as the training texts."""
    config, (first, *_) = work.prepared.config, work.stages
    costs = [work.costs[spec] for spec, _ in {(str(trial.spec), trial.seed) for trial in work.pending}]
    seconds = 0.0
    for collection in tests:
        times = 1 if config.train.trainable == "head" else len(costs)
        seconds += times * first.encoding(len(collection.queries), len(collection.corpus))
        tokens = len(collection.corpus) * first.documents.tokens
        search = len(collection.queries) * first.queries.tokens * tokens * config.heads.out_features
        seconds += seconds_of_products(sum(tokens * cost + search for cost in costs), work.prepared.model.device)
    return seconds
