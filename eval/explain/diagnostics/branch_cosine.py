"""branch-cosine: mean cosine of a branch with the sum that it is a part of."""

from eval.explain.branches import branches_of, contribution
from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "branch-cosine",
    title="Direction of each branch",
    group="gain",
    formula="mean of cos(part, part + rest), over sampled document tokens",
    range=(-1.0, 1.0),
    high="The branch points where the output points.",
    low="The branch is at right angles to the output, or (below 0) works against it.",
    source="this project",
)
def branch_cosine(given: Given) -> dict[str, float] | None:
    """Return it for each branch of a head on a frozen backbone."""
    if given.head is None:
        return None
    states = given.sampled_states
    return {
        f"branches: {branch.name}": contribution(given.head, branch, states)[1]
        for branch in branches_of(given.head, states)
    }
