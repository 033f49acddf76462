"""effective-rank: exp(-sum p_k log p_k), p_k = s_k / sum of s, for the singular values s of the embeddings (RankMe).

Garrido et al., 2023, arXiv 2210.02885; the effective rank of Roy and Vetterli, 2007.
"""

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic
from experiment.spectra import effective_rank


@register_diagnostic(
    "effective-rank",
    title="Effective rank (RankMe)",
    group="geometry",
    formula="exp(entropy of s / sum(s)), s the singular values of the embeddings",
    range=(1.0, None),
    high="The embeddings use many directions evenly; the most is their width.",
    low="The embeddings lie near a subspace of few dimensions (dimensional collapse).",
    source="Garrido et al., 2023, arXiv 2210.02885",
)
def rank_me(given: Given) -> dict[str, float]:
    """Return it for documents, for queries, and for both together."""
    ranks = {side: effective_rank(tokens.singular_values) for side, tokens in given.sides()}
    return {side: rank for side, rank in ranks.items() if rank is not None}
