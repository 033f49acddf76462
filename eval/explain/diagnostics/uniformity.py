"""uniformity: log of the mean over pairs of exp(-2 |x - y|^2), Wang and Isola, 2020, arXiv 2005.10242."""

import numpy as np
from scipy.spatial.distance import pdist

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic

PAIRED_TOKENS = 1024
"""Tokens of which all pairs are compared."""


@register_diagnostic(
    "uniformity",
    title="Uniformity",
    group="geometry",
    formula="log mean of exp(-2 |x - y|^2) over pairs of tokens",
    range=(-8.0, 0.0),
    high="Tokens crowd together; 0 means that they are all the same.",
    low="Tokens are spread over the sphere; unit vectors in many dimensions reach about -4.",
    source="Wang and Isola, 2020, arXiv 2005.10242",
)
def uniformity(given: Given) -> dict[str, float]:
    """Return it for documents, for queries, and for both together."""
    found = {}
    for side, tokens in given.sides():
        chosen = tokens.rows[np.linspace(0, len(tokens.rows) - 1, PAIRED_TOKENS).astype(int)]
        chosen = chosen if len(tokens.rows) >= PAIRED_TOKENS else tokens.rows
        if len(chosen) > 1:
            found[side] = float(np.log(np.exp(-2 * pdist(chosen, "sqeuclidean")).mean()))
    return found
