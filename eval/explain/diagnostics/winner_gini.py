"""winner-gini: Gini coefficient of the number of wins of a token of a relevant document, on the probe batch."""

from eval.explain.given import Given, probes_hash
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "winner-gini",
    title="Concentration of wins (Gini)",
    group="gradients",
    formula="Gini coefficient of the number of query tokens that a token of a relevant document wins",
    range=(0.0, 1.0),
    high="A few tokens of a document win all of its query.",
    low="Wins are spread evenly over the tokens.",
    source="Gini, 1912",
    depends=probes_hash,
)
def winner_gini(given: Given) -> dict[str, float]:
    """Return it at the start, in the middle and at the end of the training."""
    return {when: point.gini for when, point in given.probes.items()}
