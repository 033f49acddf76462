"""nDCG@10 of a changed head, without a second search: it reorders what the trained head found.

For sampled queries, the first documents of the run are embedded with the changed head and ranked by it. This costs a
small part of a search, and misses the documents that only the changed head would find.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.explain.given import Given
from eval.measures import measure_run
from eval.runs import Run, encode_id
from eval.search.ranking import priorities
from experiment.encoding.device import autocast
from experiment.encoding.store import TokenStore
from experiment.seeds import numpy_generator

__all__ = ["MEASURE", "reranked_ndcg", "sampled_queries", "scores_of_run"]

MEASURE = "nDCG@10"

RERANKED_QUERIES = 30
"""At most so many queries are sampled."""

CANDIDATES = 15
"""Documents of a run that are ranked again."""


def sampled_queries(given: Given) -> list[str]:
    """Return the ids of the sampled queries, those of no query that cannot be searched."""
    names = [
        name
        for place, name in enumerate(given.task.collection.qrels)
        if given.queries.lengths[place] and given.run.get(name)
    ]
    order = numpy_generator(0, "explain", "rerank").permutation(len(names))[:RERANKED_QUERIES]
    return [names[place] for place in sorted(order)]


def scores_of_run(given: Given, run: Run, queries: Sequence[str]) -> dict[str, float]:
    """Return nDCG@10 of each query."""
    qrels = {name: given.task.collection.qrels[name] for name in queries}
    return measure_run([MEASURE], qrels, run)[MEASURE]


def reranked_ndcg(given: Given, head: nn.Module, queries: Sequence[str], runs: Sequence[Run]) -> dict[str, float]:
    """Return nDCG@10 of each query with the first documents of all runs ranked by a head of a frozen backbone."""
    places = {name: place for place, name in enumerate(given.task.document_ids)}
    texts = {name: place for place, name in enumerate(given.task.collection.qrels)}
    query_states, document_states = given.encoder.token_states(given.subject)
    chosen = {
        name: list(dict.fromkeys(places[found] for run in runs for found, _ in run.get(name, ())[:CANDIDATES]))
        for name in queries
    }
    documents = _embedded(given, head, document_states, sorted({one for found in chosen.values() for one in found}))
    tokens = _embedded(given, head, query_states, [texts[name] for name in queries])
    run, priority = {}, priorities([encode_id(name) for name in given.task.document_ids])
    for name, found in chosen.items():
        scores = [float((tokens[texts[name]] @ documents[one].T).amax(dim=1).sum()) for one in found]
        order = np.lexsort(([-priority[one] for one in found], -np.array(scores)))
        run[name] = [(given.task.document_ids[found[place]], scores[place]) for place in order]
    return scores_of_run(given, run, queries)


def _embedded(given: Given, head: nn.Module, states: TokenStore, texts: Sequence[int]) -> Mapping[int, Tensor]:
    """Embed texts from their token states, rounded as evaluation keeps them, by their places in the data set."""
    rows = torch.from_numpy(np.concatenate([states[text] for text in texts]).astype(np.float32))
    device = given.encoding.device
    with torch.no_grad(), autocast(device, given.encoding.precision):
        projected = head.to(device).eval()(rows.to(device))
    kept = functional.normalize(projected.float(), dim=-1).cpu().to(getattr(torch, given.encoding.dtype)).float()
    parts = torch.split(kept, states.lengths[list(texts)].tolist())
    return dict(zip(texts, parts, strict=True))
