"""How long an experiment will take, told before it begins."""

from collections.abc import Sequence

from experiment.collections import check_source, open_collection
from experiment.config import ExperimentConfig
from experiment.console.progress import human_time
from experiment.encoding.speed import TextSample, sample_texts, seconds_of_products
from projheads import build_head, head_cost
from projheads.hosts.base import HostModel
from train.setting import Setting
from train.trainer import Trial
from train.trial import count_steps

__all__ = ["estimate_line"]

FORWARD_AND_BACKWARD = 3.0
"""Work of both passes in units of the forward pass."""


def estimate_line(setting: Setting, pending: Sequence[Trial], *, encoded: bool) -> str:
    """Measure this machine for a moment and tell roughly what the experiment will take.

    Args:
        setting: What the trials share.
        pending: The trials that are still to be trained.
        encoded: Whether the token states of the training texts are there already.
    """
    config, model, data = setting.config, setting.model, setting.data
    precision = config.train.precision
    queries = sample_texts(model, data.queries, is_query=True, precision=precision)
    documents = sample_texts(model, data.documents, is_query=False, precision=precision)
    n_ways = data.examples.shape[1] - 1
    example_tokens = queries.tokens + n_ways * documents.tokens
    products, seen, costs = 0.0, 0, {}
    for trial in pending:
        batch = trial.settings.batch_size
        examples = count_steps(trial.settings, len(data.examples)) * batch * trial.settings.gradient_accumulation
        head = build_head(trial.spec, model.in_features, config.heads.out_features)
        cost = costs[trial.spec.slug, trial.seed] = head_cost(head).multiply_adds
        similarities = examples * queries.tokens * batch * n_ways * documents.tokens
        products += FORWARD_AND_BACKWARD * examples * example_tokens * cost + similarities * sum(config.heads.widths)
        seen += examples
    encoding, training = 0.0, seconds_of_products(products, model.device)
    if config.train.trainable == "all":
        training += FORWARD_AND_BACKWARD * seen * (queries.seconds + n_ways * documents.seconds)
    elif not encoded:
        encoding = len(data.queries) * queries.seconds + len(data.documents) * documents.seconds
    evaluation = _evaluation_s(config, model, queries, documents, list(costs.values()))
    parts = [f"{human_time(encoding)} for the backbone's token states"] if encoding else []
    parts += [f"{human_time(training)} for training", f"{human_time(evaluation)} for the evaluation that follows"]
    return f"this will take roughly {human_time(encoding + training + evaluation)}: {', '.join(parts)}"


def _evaluation_s(
    config: ExperimentConfig, model: HostModel, queries: TextSample, documents: TextSample, costs: Sequence[int]
) -> float:
    """Guess the seconds of the evaluation on the collections that are at hand; their texts count as long as ours."""
    seconds = 0.0
    for dataset in config.eval.datasets:
        if check_source(dataset.source, cache=config.cache) is not None:
            continue
        collection = open_collection(dataset.source, split=dataset.split, cache=config.cache)
        times = 1 if config.train.trainable == "head" else len(costs)
        seconds += times * (len(collection.corpus) * documents.seconds + len(collection.queries) * queries.seconds)
        tokens = len(collection.corpus) * documents.tokens
        search = len(collection.queries) * queries.tokens * tokens * config.heads.out_features
        seconds += seconds_of_products(sum(tokens * cost + search for cost in costs), model.device)
    return seconds
