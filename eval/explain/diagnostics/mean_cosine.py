"""mean-cosine: mean of <x_i, x_j> over pairs of different tokens of norm 1, (|sum of x|^2 - n) / (n (n - 1)).

Anisotropy: Ethayarajh, 2019, arXiv 1909.00512. The formula is exact over the sample, without drawing pairs.
"""

import numpy as np

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "mean-cosine",
    title="Mean pairwise cosine",
    group="geometry",
    formula="mean of <x_i, x_j> over pairs of different tokens",
    range=(-1.0, 1.0),
    high="The embeddings share one direction (they are anisotropic): codes, hashes and single-vector summaries that do "
    "not centre them lose most of their resolution.",
    low="The embeddings point in all directions.",
    source="Ethayarajh, 2019, arXiv 1909.00512",
    alarm="anisotropic",
    above=0.5,
    version=2,
)
def mean_cosine(given: Given) -> dict[str, float]:
    """Return it for documents, for queries, for both together, and for pairs of a query's and a document's token."""
    found = {}
    for side, tokens in given.sides():
        count = len(tokens.rows)
        if count > 1:
            total, own = tokens.rows.sum(axis=0), np.square(tokens.rows).sum()
            found[side] = float((total @ total - own) / (count * (count - 1)))
    queries, documents = given.query_tokens.rows, given.document_tokens.rows
    if len(queries) and len(documents):
        found["queries with documents"] = float(queries.mean(axis=0) @ documents.mean(axis=0))
    return found
