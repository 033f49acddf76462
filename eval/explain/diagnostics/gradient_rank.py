"""gradient-rank: effective rank of the gradient of the head's map, sum over tokens of g x^T, on the probe batch."""

from eval.explain.given import Given, probes_hash
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "gradient-rank",
    title="Effective rank of the map's gradient",
    group="gradients",
    formula="exp(entropy of the singular values of sum g x^T), g the gradient of the head's output, x the token state",
    range=(1.0, None),
    high="The gradient pushes in many directions at once.",
    low="The gradient pushes in few directions; MaxSim alone makes it sparse.",
    source="Clavié et al., 2025, arXiv 2510.12327; Roy and Vetterli, 2007",
    depends=probes_hash,
)
def gradient_rank(given: Given) -> dict[str, float]:
    """Return it at the start, in the middle and at the end of the training."""
    return {when: point.gradient_rank for when, point in given.probes.items() if point.gradient_rank is not None}
