"""hubness: skewness of N_10, how often a document is among the first 10 of a query.

Radovanovic et al., 2010, Hubs in Space (JMLR 11).
"""

import numpy as np
from scipy.stats import skew

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic


@register_diagnostic(
    "hubness",
    title="Hubness of documents",
    group="geometry",
    formula="skewness over all documents of the number of queries that have it among their first 10",
    range=(None, None),
    high="A few documents (hubs) are found for many queries, whatever these ask.",
    low="All documents are found about equally often.",
    source="Radovanovic et al., 2010, JMLR 11",
)
def hubness(given: Given) -> dict[str, float]:
    """Return it for the rankings of the judged queries."""
    counts = dict.fromkeys(given.task.document_ids, 0)
    for found in given.run.values():
        for document, _ in found[:10]:
            counts[document] += 1
    numbers = np.array(list(counts.values()), np.float64)
    return {"documents": float(skew(numbers))} if numbers.std() > 0 else {}
