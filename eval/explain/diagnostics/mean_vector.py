"""mean-vector: |mean of x|^2 / mean of |x|^2, the share of the embeddings' energy that lies in their mean vector.

Subtracting the mean removes exactly this share: Mu and Viswanath, 2018, arXiv 1702.01417.
"""

import numpy as np

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "mean-vector",
    title="Share of the mean vector",
    group="geometry",
    formula="|mean of x|^2 / mean of |x|^2",
    range=(0.0, 1.0),
    high="One vector, which all embeddings have in common, makes most of every similarity; centring removes it.",
    low="Similarities do not come from a common vector, and centring changes little.",
    source="Mu and Viswanath, 2018, arXiv 1702.01417",
)
def mean_vector(given: Given) -> dict[str, float]:
    """Return it for documents, for queries, and for both together."""
    return {
        side: float(np.square(tokens.rows.mean(axis=0)).sum() / np.square(tokens.rows).sum(axis=1).mean())
        for side, tokens in given.sides()
    }
