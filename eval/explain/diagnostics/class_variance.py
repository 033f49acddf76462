"""class-variance: variance within classes / variance between them, tr(S_W) / tr(S_B) (class-variability collapse).

The classes are the word pieces that occur in several texts, and the documents. It is the first property of neural
collapse (Papyan et al., 2020, arXiv 2008.08186), with traces instead of a pseudo-inverse.
"""

import numpy as np

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "class-variance",
    title="Variance within classes over variance between them",
    group="geometry",
    formula="tr(S_W) / tr(S_B); the classes are the word pieces that occur in several documents, and the documents",
    range=(0.0, None),
    high="Word pieces: an embedding depends on its context. Documents: tokens of one document differ.",
    low="Word pieces: an embedding says little more than which word it is. Documents: tokens of a document are alike.",
    source="Papyan et al., 2020, arXiv 2008.08186",
)
def class_variance(given: Given) -> dict[str, float]:
    """Return it for word pieces and for documents."""
    tokens, pieces, found = given.document_tokens, given.document_pieces, {}
    if pieces is not None:
        pairs = np.unique(np.stack([pieces, tokens.texts]), axis=1)
        several = np.bincount(pairs[0]) > 1
        kept = several[pieces]
        found["word pieces"] = variance_ratio(tokens.rows[kept], pieces[kept])
    found["documents"] = variance_ratio(tokens.rows, tokens.texts)
    return {name: value for name, value in found.items() if value is not None}


def variance_ratio(rows: np.ndarray, classes: np.ndarray) -> float | None:
    """Return the ratio for rows (n, width) with a class each; None if there are fewer than two classes."""
    if not len(rows):
        return None
    order = np.argsort(classes, kind="stable")
    starts = np.flatnonzero(np.diff(classes[order], prepend=-1))
    counts = np.diff(np.append(starts, len(rows)))
    means = np.add.reduceat(rows[order], starts) / counts[:, None]
    between = (counts[:, None] * np.square(means - rows.mean(axis=0))).sum()
    within = np.square(rows).sum() - (counts[:, None] * np.square(means)).sum()
    return float(within / between) if between > 0 else None
