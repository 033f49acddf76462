"""winner-share: share of document tokens that win at least one query token, on the probe batch."""

from eval.explain.given import Given, probes_hash
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "winner-share",
    title="Tokens that win",
    group="gradients",
    formula="share of document tokens that are the MaxSim of at least one query token of the probe batch",
    range=(0.0, 1.0),
    high="Many tokens get gradient.",
    low="Few tokens get gradient: the winner takes all, and most of a document is not trained.",
    source="Clavié et al., 2025, arXiv 2510.12327, on the sparsity of gradients under MaxSim",
    depends=probes_hash,
)
def winner_share(given: Given) -> dict[str, float]:
    """Return it at the start, in the middle and at the end of the training."""
    found = {}
    for when, point in given.probes.items():
        found[f"{when}: for its own query"] = point.winners
        found[f"{when}: for any query of the batch"] = point.winners_in_batch
    return found
