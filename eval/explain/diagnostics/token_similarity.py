"""token-similarity: mean cosine of tokens of one text, and of tokens of different texts (oversmoothing).

Tokens that resemble each other within a text carry one meaning many times: Shi et al., 2022, arXiv 2202.08625.
"""

import numpy as np

from eval.explain.given import Given, Tokens
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "token-similarity",
    title="Token similarity within and between texts",
    group="geometry",
    formula="mean of <x_i, x_j> over pairs of tokens of one text; the same over pairs of different texts",
    range=(-1.0, 1.0),
    high="Within: the tokens of a text say the same (oversmoothing), so MaxSim gains little over one vector. Between: "
    "tokens are alike whatever the text.",
    low="Each token carries information that the others do not.",
    source="Shi et al., 2022, arXiv 2202.08625",
)
def token_similarity(given: Given) -> dict[str, float]:
    """Return it for documents and for queries."""
    found = {}
    for side, tokens in (("documents", given.document_tokens), ("queries", given.query_tokens)):
        for kind, value in similarities(tokens).items():
            found[f"{side}: {kind}"] = value
    return found


def similarities(tokens: Tokens) -> dict[str, float]:
    """Return the mean over pairs within a text, and the mean over pairs of different texts."""
    starts = np.flatnonzero(np.diff(tokens.texts, prepend=-1))
    counts = np.diff(np.append(starts, len(tokens.rows)))
    sums = np.add.reduceat(tokens.rows, starts)
    own = np.square(tokens.rows).sum()
    within, total = np.square(sums).sum(), np.square(sums.sum(axis=0)).sum()
    pairs_within, pairs = (counts * (counts - 1)).sum(), len(tokens.rows) ** 2 - np.square(counts).sum()
    found = {"within": float((within - own) / pairs_within)} if pairs_within else {}
    return found | ({"between": float((total - within) / pairs)} if pairs else {})
