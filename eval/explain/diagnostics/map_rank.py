"""map-rank: effective rank of the head's map: its matrix, or the least-squares fit of a non-linear head."""

from eval.explain.given import Given, probes_hash
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "map-rank",
    title="Effective rank of the head's map",
    group="gradients",
    formula="exp(entropy of the singular values of W); W fitted by least squares for a non-linear head",
    range=(1.0, None),
    high="The map uses many directions evenly.",
    low="The map is near low rank, as training with weight decay on a product of matrices prefers.",
    source="Roy and Vetterli, 2007; Jacot, 2023, arXiv 2209.15055, on low-rank bias",
    depends=probes_hash,
)
def map_rank(given: Given) -> dict[str, float]:
    """Return it at the start, in the middle and at the end of the training."""
    return {when: point.map_rank for when, point in given.probes.items()}
