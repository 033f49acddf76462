"""top-variance: the share of the variance in the k principal directions with the most, k = 1, 8, 32."""

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "top-variance",
    title="Variance in the top directions",
    group="geometry",
    formula="sum of the k largest eigenvalues of the covariance / sum of all, k = 1, 8, 32",
    range=(0.0, 1.0),
    high="A few directions hold the variance: the others could be dropped, and a code spends bits on nothing.",
    low="The variance is spread over many directions.",
    source="principal component analysis",
)
def top_variance(given: Given) -> dict[str, float]:
    """Return it for documents, for queries, and for both together."""
    return {
        f"{side}: top {k}": float(tokens.variances[:k].sum() / total)
        for side, tokens in given.sides()
        for k in (1, 8, 32)
        if (total := tokens.variances.sum()) > 0
    }
