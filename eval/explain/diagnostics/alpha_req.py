"""alpha-req: a in lambda_k ~ k^-a, for the eigenvalues lambda of the covariance, by least squares of the logarithms.

Agrawal et al., 2022, alpha-ReQ (NeurIPS); Stringer et al., 2019, for a near 1 in visual cortex.
"""

import numpy as np

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "alpha-req",
    title="Decay of the spectrum (alpha-ReQ)",
    group="geometry",
    formula="the slope a of lambda_k ~ k^-a, fitted to the eigenvalues of the covariance on log scales",
    range=(0.0, None),
    high="The variance falls quickly from the first directions to the last.",
    low="The variance is spread evenly; 0 is a flat spectrum.",
    source="Agrawal et al., 2022, NeurIPS",
)
def alpha_req(given: Given) -> dict[str, float]:
    """Return it for documents, for queries, and for both together."""
    found = {}
    for side, tokens in given.sides():
        kept = tokens.variances[tokens.variances > TINY * tokens.variances[0]]
        if len(kept) > 1:
            found[side] = float(-np.polyfit(np.log(np.arange(1, len(kept) + 1)), np.log(kept), 1)[0])
    return found


TINY = 1e-12
"""Eigenvalues below this share of the largest are rounding errors."""
