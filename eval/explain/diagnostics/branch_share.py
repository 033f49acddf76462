"""branch-share: |part| / (|part| + |rest|), the share of a branch in the norms of the sum that it is a part of."""

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "branch-share",
    title="Share of each branch",
    group="gain",
    formula="mean |part| / (mean |part| + mean |rest|), over sampled document tokens",
    range=(0.0, 1.0),
    high="The branch makes most of the output.",
    low="The branch contributes little.",
    source="this project",
    version=2,
)
def branch_share(given: Given) -> dict[str, float]:
    """Return it for each branch of a head on a frozen backbone."""
    return {f"branches: {branch}": found[0] for branch, found in given.contributions.items()}
