"""An estimate of how long an experiment will take."""

from collections.abc import Iterable, Mapping, Sequence

from experiment.collections import Collection
from experiment.config import ExperimentConfig
from experiment.console.progress import human_time
from experiment.encoding.speed import TextSample, sample_texts, seconds_of_products
from projheads import build_head, head_cost
from projheads.hosts.base import HostModel
from train.lockstep import lockstep_groups
from train.preparation import Preparation
from train.trial import Trial

__all__ = ["estimate_line"]

FORWARD_AND_BACKWARD = 3.0
"""Work of a forward and a backward pass, in forward passes."""


def estimate_line(
    prepared: Preparation, pending: Sequence[Trial], tests: Mapping[str, Collection], *, encoded: bool
) -> str:
    """Time this machine briefly and estimate how long the experiment will take.

    Args:
        prepared: What the trials share.
        pending: The trials that are not trained yet.
        tests: The test collections that are on this disk, by name.
        encoded: Whether the token states of the training texts are in the cache.
    """
    config, model, data = prepared.config, prepared.model, prepared.data
    precision = config.train.precision
    queries = sample_texts(model, data.queries, is_query=True, precision=precision)
    documents = sample_texts(model, data.documents, is_query=False, precision=precision)
    n_ways = data.examples.shape[1] - 1
    example_tokens = queries.tokens + n_ways * documents.tokens
    products, seen, costs = 0.0, 0, {}
    for trial in pending:
        batch = trial.config.batch_size
        examples = _examples_of(trial)
        head = build_head(trial.spec, model.in_features, config.heads.out_features)
        cost = costs[trial.spec.slug, trial.seed] = head_cost(head).multiply_adds
        similarities = examples * queries.tokens * batch * n_ways * documents.tokens
        products += FORWARD_AND_BACKWARD * examples * example_tokens * cost + similarities * sum(config.heads.widths)
        seen += examples
    encoding, training = 0.0, seconds_of_products(products, model.device)
    if config.train.trainable == "all":
        training += FORWARD_AND_BACKWARD * seen * (queries.seconds + n_ways * documents.seconds)
    elif config.train.states == "lockstep":
        read = sum(_examples_of(group.trials[0]) for group in lockstep_groups(prepared, pending))
        encoding = read * (queries.seconds + n_ways * documents.seconds)
    elif not encoded:
        encoding = len(data.queries) * queries.seconds + len(data.documents) * documents.seconds
    evaluation = _evaluation_s(config, tests.values(), model, queries, documents, list(costs.values()))
    parts = [f"{human_time(encoding)} for the backbone's token states"] if encoding else []
    parts += [f"{human_time(training)} for training", f"{human_time(evaluation)} for the evaluation afterwards"]
    return f"this will take roughly {human_time(encoding + training + evaluation)}: {', '.join(parts)}"


def _examples_of(trial: Trial) -> int:
    return trial.steps * trial.config.batch_size * trial.config.gradient_accumulation


def _evaluation_s(
    config: ExperimentConfig,
    tests: Iterable[Collection],
    model: HostModel,
    queries: TextSample,
    documents: TextSample,
    costs: Sequence[int],
) -> float:
    """Estimate the seconds of the evaluation, assuming texts as long as the training texts."""
    seconds = 0.0
    for collection in tests:
        times = 1 if config.train.trainable == "head" else len(costs)
        seconds += times * (len(collection.corpus) * documents.seconds + len(collection.queries) * queries.seconds)
        tokens = len(collection.corpus) * documents.tokens
        search = len(collection.queries) * queries.tokens * tokens * config.heads.out_features
        seconds += seconds_of_products(sum(tokens * cost + search for cost in costs), model.device)
    return seconds
