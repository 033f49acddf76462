"""The evaluation of an experiment with a frozen backbone, against one PyLate evaluation per head."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.eval_data import DEPTH, Texts, make_model, ndcg
from eval.embed import project_tokens
from eval.search.exact import exact_search
from eval.search.ranking import Problem, priorities
from experiment.collections.same_ids import excluded_places
from experiment.encoding.tokens import encode_tokens
from projheads.hosts.base import HostModel

__all__ = ["measure_experiment"]

VARIANTS = (
    "linear",
    'ffn(activation="identity")',
    'ffn(activation="gelu")',
    "upscaled",
    "upscaled(residual=true)",
    'glu(activation="silu")',
    'residual(inner=glu(activation="silu"))',
)
SEEDS = (0, 1, 2)


def measure_experiment(texts: Texts, backbone: str, pylate_evaluations: int) -> dict[str, Any]:
    """Evaluate 7 heads with 3 seeds by exact search, and a few of them with PyLate's encode and PLAID.

    We encode the texts once for all heads; PyLate encodes them once per head.
    """
    heads = [(spec, seed) for spec in VARIANTS for seed in SEEDS]
    device = torch.device("cpu")
    model = make_model("pylate", backbone)
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        stores = [
            encode_tokens(model, some, is_query=side == "queries", project=False, folder=Path(place, side))
            for side, some in (("queries", texts.queries), ("documents", texts.documents))
        ]
        encoded = time.perf_counter()
        qualities = []
        for spec, seed in heads:
            qualities.append(
                _evaluate(make_model("pylate", backbone, spec, seed).head, stores, texts, Path(place), device)
            )
        finished = time.perf_counter()
    theirs, their_qualities = [], []
    for spec, seed in heads[:: max(1, len(heads) // max(1, pylate_evaluations))][:pylate_evaluations]:
        before = time.perf_counter()
        their_qualities.append(_with_pylate(make_model("pylate", backbone, spec, seed), texts))
        theirs.append(time.perf_counter() - before)
    extrapolated = len(heads) * float(np.mean(theirs)) if theirs else None
    return {
        "documents": len(texts.documents),
        "queries": len(texts.queries),
        "evaluations": len(heads),
        "ours_s": finished - started,
        "ours_encoding_s": encoded - started,
        "ours_seconds_an_evaluation": (finished - encoded) / len(heads),
        "ours_ndcg@10": qualities,
        "pylate_evaluations_measured": len(theirs),
        "pylate_seconds_an_evaluation": theirs,
        "pylate_ndcg@10": their_qualities,
        "pylate_s_extrapolated": extrapolated,
        "times_faster": extrapolated / (finished - started) if extrapolated else None,
    }


def _evaluate(head: nn.Module, stores: list[Any], texts: Texts, place: Path, device: torch.device) -> float:
    with tempfile.TemporaryFile(dir=place) as query_file, tempfile.TemporaryFile(dir=place) as document_file:
        queries, documents = (
            project_tokens(store, head, file, device, "fp32")
            for store, file in zip(stores, (query_file, document_file), strict=True)
        )
        own, priority = (
            excluded_places(texts.query_ids, texts.document_ids, texts.query_ids),
            priorities(texts.document_ids),
        )
        found = exact_search(Problem(queries, documents, DEPTH, priority, own), device=device)
    return ndcg(texts, [ranking.documents.tolist() for ranking in found])


def _with_pylate(model: HostModel, texts: Texts) -> float:
    """Evaluate as PyLate's documentation does: encode, PLAID, retrieve."""
    from pylate import indexes, retrieve

    native: Any = model.native
    with tempfile.TemporaryDirectory() as place:
        documents = native.encode(texts.documents, is_query=False, show_progress_bar=False)
        index = indexes.PLAID(place, "plaid", override=True, show_progress=False, device="cpu")
        index.add_documents([str(number) for number in range(len(documents))], documents)
        queries = native.encode(texts.queries, is_query=True, show_progress_bar=False)
        found = retrieve.ColBERT(index=index).retrieve(queries, k=DEPTH)
    own = excluded_places(texts.query_ids, texts.document_ids, texts.query_ids)
    places = [[int(one["id"]) for one in row if int(one["id"]) != mine] for row, mine in zip(found, own, strict=True)]
    return ndcg(texts, places)
