"""branch-cosine: mean cosine of a branch with the sum that it is a part of."""

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
    version=2,
)
def branch_cosine(given: Given) -> dict[str, float]:
    """Return it for each branch of a head on a frozen backbone."""
    return {f"branches: {branch}": found[1] for branch, found in given.contributions.items()}
