"""Makes scores of known truth for the tests of verdicts."""

import numpy as np

from eval.verdicts import Scores


def experiment(
    random, means, *, seeds=5, queries=200, seed_sd=0.3, query_sd=0.0, noise_sd=1.0, start_sd=None, baseline_seeds=None
):
    """One data set; the first name is the baseline. With ``start_sd`` all share a start of that scatter."""
    generator = np.random.default_rng(random)
    difficulty = generator.normal(0, 3, queries)
    most = max(seeds, baseline_seeds or 0)
    start = generator.normal(0, start_sd or 0.0, (most, 1))
    scores = {}
    for place, (name, mean) in enumerate(means.items()):
        count = baseline_seeds if baseline_seeds and place == 0 else seeds
        table = (
            mean
            + difficulty
            + start[:count]
            + generator.normal(0, seed_sd, (count, 1))
            + generator.normal(0, query_sd, (1, queries))
            + generator.normal(0, noise_sd, (count, queries))
        )
        scores[name] = Scores(tuple(range(count)), (table,), "one" if start_sd else None)
    return scores


def constant(values, queries=50, seeds=None, start_group=None):
    """Scores of one data set in which only seeds vary."""
    return Scores(
        tuple(seeds or range(len(values))),
        (np.repeat(np.asarray(values, float)[:, None], queries, axis=1),),
        start_group,
    )
