"""The collections that an experiment is tested on, as far as training looks at them: their sizes and their queries."""

from collections.abc import Mapping

from experiment.collections import Collection, check_source, open_collection
from experiment.config import ExperimentConfig
from train.data.examples import TrainingData

__all__ = ["known_test_queries", "open_test_collections"]


def open_test_collections(config: ExperimentConfig) -> dict[str, Collection]:
    """Open the test collections that are on this disk, by the name of the data set; nothing is downloaded."""
    return {
        dataset.name: open_collection(dataset.source, split=dataset.split, cache=config.cache)
        for dataset in config.eval.datasets
        if check_source(dataset.source, cache=config.cache) is None
    }


def known_test_queries(collections: Mapping[str, Collection], data: TrainingData) -> list[str]:
    """Warn of judged test queries that are also training or development queries, a line for each collection and kind.

    Args:
        collections: The test collections, by name.
        data: The training data.
    """
    development = sum(len(one.queries) for one in data.development)
    trained = set(data.queries[: len(data.queries) - development])
    choosing = {text for one in data.development for text in one.queries}
    lines = []
    for name, collection in collections.items():
        tested = [collection.queries[query] for query in collection.qrels]
        if shared := sum(text in trained for text in tested):
            lines.append(
                f"warning: {shared} of {len(tested)} test queries of {name} are also training queries; scores on them "
                "do not carry over to other queries"
            )
        if shared := sum(text in choosing for text in tested):
            lines.append(
                f"warning: {shared} of {len(tested)} test queries of {name} are also development queries, which choose "
                "the learning rate; scores on them do not carry over to other queries"
            )
    return lines
