"""crh-alignment: cosines between the second moments of the head's outputs (R), of their gradients (G), and W W^T (W).

These are the three forward relations of the canonical representation hypothesis: Ziyin et al., 2024, arXiv 2410.03006.
"""

from eval.explain.given import Given, probes_hash
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "crh-alignment",
    title="Alignment of representations, gradients and weights",
    group="gradients",
    formula="cosines of the matrices R = sum y y^T, G = sum g g^T and W W^T, y the head's outputs, g their gradients",
    range=(0.0, 1.0),
    high="Representations, weights and gradients share their directions, as the canonical representation hypothesis "
    "expects of a trained layer.",
    low="They have little to do with each other.",
    source="Ziyin et al., 2024, arXiv 2410.03006",
    depends=probes_hash,
)
def crh_alignment(given: Given) -> dict[str, float]:
    """Return it at the start, in the middle and at the end of the training."""
    return {f"{when}: {pair}": value for when, point in given.probes.items() for pair, value in point.alignment.items()}
