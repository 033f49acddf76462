"""gradient-energy: share of the squared norm of the gradient of the head's map in its top 1, 8 and 32 directions."""

from eval.explain.given import Given, probes_hash
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "gradient-energy",
    title="Energy of the map's gradient over directions",
    group="gradients",
    formula="sum of the k largest squared singular values of sum g x^T / sum of all, k = 1, 8, 32",
    range=(0.0, 1.0),
    high="A few directions get the gradient.",
    low="The gradient is spread over many directions.",
    source="singular value decomposition",
    depends=probes_hash,
)
def gradient_energy(given: Given) -> dict[str, float]:
    """Return it at the start, in the middle and at the end of the training."""
    return {
        f"{when}: top {k}": share for when, point in given.probes.items() for k, share in point.gradient_energy.items()
    }
