"""The collections that an experiment is tested on, as far as training looks at them: their sizes and their queries."""

from collections.abc import Mapping, Sequence

from experiment.collections import Collection, check_source, open_collection
from experiment.config import ExperimentConfig

__all__ = ["open_test_collections", "queries_trained_on"]


def open_test_collections(config: ExperimentConfig) -> dict[str, Collection]:
    """Open the test collections that are on this disk, by the name of the data set; nothing is downloaded."""
    return {
        dataset.name: open_collection(dataset.source, split=dataset.split, cache=config.cache)
        for dataset in config.eval.datasets
        if check_source(dataset.source, cache=config.cache) is None
    }


def queries_trained_on(collections: Mapping[str, Collection], training: Sequence[str]) -> list[str]:
    """Warn of judged test queries that are also training queries, a line for each collection that has any.

    Args:
        collections: The test collections, by name.
        training: Texts of the training queries.
    """
    lines, known = [], set(training)
    for name, collection in collections.items():
        tested = [collection.queries[query] for query in collection.qrels]
        shared = sum(text in known for text in tested)
        if shared:
            lines.append(
                f"warning: {shared} of {len(tested)} test queries of {name} are also training queries; scores on them "
                "do not carry over to other queries"
            )
    return lines
