"""branch-ablation: nDCG@10 lost with a branch off, on sampled queries whose first 15 documents are ranked again."""

import numpy as np

from eval.explain.given import Given
from eval.explain.registry import Measured, register_diagnostic
from eval.explain.rerank import reranked_ndcg, sampled_queries, scores_of_run

MOST_BRANCHES = 4
"""Branches that are turned off, the outermost first: each takes as long as the trained head."""


@register_diagnostic(
    "branch-ablation",
    title="nDCG@10 lost without each branch",
    group="gain",
    formula="nDCG@10 - nDCG@10 with the branch off, which ranks the first 15 documents of 30 sampled queries again; a "
    "gate that is off is held at its mean, and a layer without a skip passes on its input",
    range=(-1.0, 1.0),
    high="The score depends on the branch.",
    low="The head scores the same without the branch; below 0, it scores better.",
    source="this project",
    version=2,
)
def branch_ablation(given: Given) -> Measured | None:
    """Return it for each branch of a head on a frozen backbone."""
    head, queries = given.head, sampled_queries(given)
    if head is None or not queries:
        return None
    full = scores_of_run(given, given.run, queries)
    lost = {}
    for branch in given.branches[:MOST_BRANCHES]:
        with branch.off():
            without = reranked_ndcg(given, head, queries, [given.run])
        lost[f"branches: {branch.name}"] = {name: full[name] - without[name] for name in queries}
    return Measured({name: float(np.mean(list(scores.values()))) for name, scores in lost.items()})
