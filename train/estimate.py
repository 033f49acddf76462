"""How long an experiment will take, told before it begins."""

from collections.abc import Sequence

from experiment.collections import check_source, open_collection
from experiment.config import ExperimentConfig
from experiment.estimate import Speed, human_time, measure_speed
from projheads import build_head, head_cost
from projheads.hosts.base import HostModel
from projheads.spec import HeadSpec
from train.data import TrainingData
from train.trial import count_steps

__all__ = ["estimate_line"]


def estimate_line(
    config: ExperimentConfig, model: HostModel, data: TrainingData, pending: Sequence[HeadSpec], *, encoded: bool
) -> str:
    """Measure this machine for a moment and tell roughly what the experiment will take.

    Args:
        config: The experiment.
        model: The model with its pretrained backbone.
        data: The training pairs.
        pending: The head of each trial that is still to be trained.
        encoded: Whether the token states of the training texts are there already.
    """
    precision = config.train.precision
    queries = measure_speed(model, data.queries, is_query=True, precision=precision)
    documents = measure_speed(model, data.documents, is_query=False, precision=precision)
    frozen = config.train.trainable == "head"
    encoding = 0.0
    if frozen and not encoded:
        encoding = queries.encoding_s(len(data.queries)) + documents.encoding_s(len(data.documents))
    costs = [_multiply_adds(spec, model, config) for spec in pending]
    training = sum(_trial_s(config, data, queries, documents, cost) for cost in costs)
    evaluation = sum(
        _evaluation_s(config, queries, documents, costs, len(collection.corpus), len(collection.queries))
        for dataset in config.eval.datasets
        if check_source(dataset.source) is None
        for collection in (open_collection(dataset.source, split=dataset.split, cache=config.cache),)
    )
    parts = [f"{human_time(encoding)} for the backbone's token states"] if encoding else []
    parts += [f"{human_time(training)} for training", f"{human_time(evaluation)} for the evaluation that follows"]
    return f"this will take roughly {human_time(encoding + training + evaluation)}: {', '.join(parts)}"


def _multiply_adds(spec: HeadSpec, model: HostModel, config: ExperimentConfig) -> int:
    return head_cost(build_head(spec, model.in_features, config.heads.out_features)).multiply_adds


def _trial_s(config: ExperimentConfig, data: TrainingData, queries: Speed, documents: Speed, cost: int) -> float:
    batch = config.train.batch_size
    steps = count_steps(config.train, len(data.pairs))
    similarities = batch * queries.tokens_per_text * batch * documents.tokens_per_text
    scoring = steps * similarities * config.heads.out_features
    backbone = config.train.trainable == "all"
    return queries.training_s(steps * batch, cost, 0, backbone=backbone) + documents.training_s(
        steps * batch, cost, scoring, backbone=backbone
    )


def _evaluation_s(
    config: ExperimentConfig,
    queries: Speed,
    documents: Speed,
    costs: Sequence[int],
    corpus: int,
    judged: int,
) -> float:
    """Seconds for one data set; the texts are taken to be as long as those of the training."""
    encoding = documents.encoding_s(corpus) + queries.encoding_s(judged)
    tokens = corpus * documents.tokens_per_text
    searching = judged * queries.tokens_per_text * tokens * config.heads.out_features
    products = sum(tokens * cost + searching for cost in costs)
    times_encoded = 1 if config.train.trainable == "head" else len(costs)
    return times_encoded * encoding + documents.products_s(products)
