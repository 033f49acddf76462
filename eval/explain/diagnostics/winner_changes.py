"""winner-changes: share of the query tokens of the probe batch whose winner differs after one more step."""

from eval.explain.given import Given, probes_hash
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "winner-changes",
    title="Winners that change in one step",
    group="gradients",
    formula="share of query tokens whose winner in the relevant document differs after one step",
    range=(0.0, 1.0),
    high="What gets the gradient is unstable from step to step.",
    low="The same tokens win at every step.",
    source="this project",
    depends=probes_hash,
)
def winner_changes(given: Given) -> dict[str, float]:
    """Return it at the start, in the middle and at the end of the training."""
    return {when: point.changed for when, point in given.probes.items() if point.changed is not None}
