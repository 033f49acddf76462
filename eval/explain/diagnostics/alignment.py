"""alignment: mean of |q - d|^2 over matched tokens, a query's and the one that wins it in a relevant document.

Wang and Isola, 2020, arXiv 2005.10242, with MaxSim's pairs as the positive pairs.
"""

import numpy as np

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "alignment",
    title="Alignment of matched tokens",
    group="geometry",
    formula="mean of |q - d|^2 over query tokens q and the token d of a relevant document that wins MaxSim",
    range=(0.0, 4.0),
    high="Query tokens are far from what they match.",
    low="Query tokens are close to what they match; 0 means that they are the same.",
    source="Wang and Isola, 2020, arXiv 2005.10242",
)
def alignment(given: Given) -> dict[str, float]:
    """Return it for queries and relevant documents."""
    ours, theirs = given.matched_tokens
    return {"matched": float(np.square(ours - theirs).sum(axis=1).mean())} if len(ours) else {}
