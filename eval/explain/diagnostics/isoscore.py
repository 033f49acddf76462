"""isoscore: how evenly the variance is spread, from 0 (one direction) to 1 (all), without regard to the mean.

With the variances v along the n principal directions scaled to norm sqrt(n), d = |v - 1| / sqrt(2 (n - sqrt(n))),
f = (n - d^2 (n - sqrt(n)))^2 / n^2, and the score is (n f - 1) / (n - 1): Rudman et al., 2022, arXiv 2108.07344.
"""

import numpy as np

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "isoscore",
    title="IsoScore",
    group="geometry",
    formula="(n f - 1) / (n - 1), f = (n - d^2 (n - sqrt n))^2 / n^2, d = |v - 1| / sqrt(2 (n - sqrt n)), v the "
    "variances along the n principal directions, of norm sqrt n",
    range=(0.0, 1.0),
    high="The variance is the same in all directions.",
    low="The variance lies in few directions.",
    source="Rudman et al., 2022, arXiv 2108.07344",
)
def isoscore(given: Given) -> dict[str, float]:
    """Return it for documents, for queries, and for both together."""
    found = {}
    for side, tokens in given.sides():
        n, norm = len(tokens.variances), np.linalg.norm(tokens.variances)
        if n > 1 and norm > 0:
            defect = np.square(np.sqrt(n) * tokens.variances / norm - 1).sum() / (2 * (n - np.sqrt(n)))
            spread = np.square(n - defect * (n - np.sqrt(n))) / n**2
            found[side] = float((n * spread - 1) / (n - 1))
    return found
