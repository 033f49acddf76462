"""branch-share: |part| / (|part| + |rest|), the share of a branch in the norms of the sum that it is a part of."""

from eval.explain.branches import branches_of, contribution
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
)
def branch_share(given: Given) -> dict[str, float] | None:
    """Return it for each branch of a head on a frozen backbone."""
    if given.head is None:
        return None
    states = given.sampled_states
    return {
        f"branches: {branch.name}": contribution(given.head, branch, states)[0]
        for branch in branches_of(given.head, states)
    }
