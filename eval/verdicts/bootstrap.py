"""The two-level bootstrap, which resamples seeds and queries: the rival that the calibration measures us against."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["two_level_bootstrap"]


def two_level_bootstrap(
    tables: Sequence[NDArray[np.float64]], generator: np.random.Generator, *, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of a mean over data sets, seeds and queries.

    One draw takes S seeds, the same for all data sets, and for each data set its number of queries, with replacement
    (the pigeonhole bootstrap of Owen, Annals of Applied Statistics 1, 2007; every data set weighs the same).

    Args:
        tables: For each data set an array (seeds, queries).
        generator: Source of the draws.
        draws: Number of draws.
        level: Level of the interval.

    Returns:
        The two ends.
    """
    seeds = tables[0].shape[0]
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    means = np.zeros(draws)
    for table in tables:
        queries = table.shape[1]
        query_weights = generator.multinomial(queries, np.full(queries, 1 / queries), size=draws) / queries
        means += np.einsum("ds,sq,dq->d", seed_weights, table, query_weights, optimize=True) / len(tables)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
