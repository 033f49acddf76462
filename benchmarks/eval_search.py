"""Index and search on SciFact's token vectors: ours, bare matrix products of the same size, and other programs."""

import importlib.util
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import eval.search.faiss_index as approximate
from benchmarks.eval_data import DEPTH, Texts, in_child, ndcg, open_problem
from eval.search.exact import TILE_ON_CPU, FirstPass, choose_first_pass, exact_search
from eval.search.ranking import Problem, Ranking
from experiment.encoding.threads import over_threads

__all__ = ["PEERS", "SETTINGS", "approximate_search", "bare_products", "measure_search"]

SETTINGS = (
    ("IVF2048,SQfp16", None, 1024, 400),
    ("IVF1024,SQfp16", 16, 512, 200),
    ("IVF2048,SQfp16", 16, 256, 200),
    ("IVF2048,SQfp16", 32, 512, 300),
    ("IVF1024,PQ32np", 32, 512, 300),
    ("HNSW32,SQfp16", None, 256, 200),
)
"""Index, lists visited, neighbours per query token, documents scored. The first is the choice of ``auto`` for this many
vectors, with the defaults of ``experiment.config.EvalConfig``."""


PRODUCTS: dict[FirstPass, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fused": torch.float16}
"""Data type of the bare products compared with each first pass."""


def measure_search(texts: Texts, folder: Path, device: torch.device, rounds: int, peers: list[str]) -> dict[str, Any]:
    """Measure every way to search a folder's vectors, each in a separate process; exact search on a device."""
    problem = open_problem(folder)
    exact = in_child(exact_beside_products, folder, str(device), rounds)
    exact_quality = ndcg(texts, exact.pop("found"))
    methods: dict[str, Any] = {"exact": {**exact, "ndcg@10": exact_quality, "multiply_adds": problem.multiply_adds}}
    for factory, nprobe, neighbours, cap in SETTINGS:
        name = f"{factory} nprobe={nprobe} candidates_per_token={neighbours} max_candidates={cap}"
        if importlib.util.find_spec("faiss") is None:
            methods[name] = {"skipped": "faiss is not installed"}
            continue
        result = in_child(approximate_search, folder, factory, nprobe, neighbours, cap)
        result["ndcg@10"] = ndcg(texts, result.pop("found"))
        result["share_of_exact_multiplications"] = result["search_multiply_adds"] / problem.multiply_adds
        methods[name] = result
        print(f"{name}: {_line(result)}", flush=True)
    for name in peers:
        module, function = PEERS[name]
        if importlib.util.find_spec(module) is None:
            methods[name] = {"skipped": f"{module} is not installed"}
            continue
        result = in_child(function, folder)
        result["ndcg@10"] = ndcg(texts, result.pop("found"))
        methods[name] = result
        print(f"{name}: {_line(result)}", flush=True)
    loop = in_child(plain_loop, folder)
    loop["ndcg@10"] = ndcg(texts, loop.pop("found"))
    methods["plain PyTorch loop"] = loop
    return {
        "documents": len(texts.documents),
        "document_vectors": len(problem.documents.vectors),
        "queries": len(texts.queries),
        "query_vectors": len(problem.queries.vectors),
        "rounds_of_exact": rounds,
        "methods": methods,
    }


def exact_beside_products(folder: Path, device_name: str, rounds: int) -> dict[str, Any]:
    """Alternate between exact search and products of the same matrices; the fastest round of each counts."""
    problem, device = open_problem(folder), torch.device(device_name)
    best: dict[str, float] = {}
    passes: list[FirstPass] = list(dict.fromkeys(["fp32", choose_first_pass(device, problem.documents)]))
    rankings: list[Ranking] = []
    for _ in range(rounds):
        for how in passes:
            started = time.perf_counter()
            rankings = exact_search(problem, device=device, first_pass=how)
            best[f"search_s {how}"] = min(best.get(f"search_s {how}", math.inf), time.perf_counter() - started)
            for layout, seconds in bare_products(problem, device, how).items():
                name = f"bare_products_s {how}, {layout}"
                best[name] = min(best.get(name, math.inf), seconds)
    ratios = {
        f"times_bare_products {how}": best[f"search_s {how}"]
        / min(seconds for name, seconds in best.items() if name.startswith(f"bare_products_s {how}"))
        for how in passes
    }
    return {
        **best,
        **ratios,
        "index_s": 0.0,
        "search_s": min(best[f"search_s {how}"] for how in passes),
        "found": _places(rankings),
    }


def bare_products(problem: Problem, device: torch.device, how: FirstPass) -> dict[str, float]:
    """Multiply all query and document vectors into a buffer: in large products and, on a CPU, in small tiles."""
    dtype = PRODUCTS[how]
    queries = torch.tensor(problem.queries.vectors).to(device, dtype)
    documents = torch.tensor(problem.documents.vectors).to(device, dtype)
    buffer = torch.zeros(len(queries) * 4096, dtype=dtype, device=device)
    started = time.perf_counter()
    for block in torch.split(documents, 4096):
        torch.mm(queries, block.T, out=buffer[: len(queries) * len(block)].view(len(queries), len(block)))
    float(buffer[0])  # Waits for the device.
    large = time.perf_counter() - started
    if device.type != "cpu":
        return {"large": large}

    def tile(block: torch.Tensor) -> None:
        out = torch.empty(TILE_ON_CPU[0], len(block), dtype=dtype)
        for rows in torch.split(queries, TILE_ON_CPU[0]):
            torch.mm(rows, block.T, out=out[: len(rows)])

    started = time.perf_counter()
    over_threads(tile, torch.split(documents, TILE_ON_CPU[1]))
    return {"large": large, "tiles": time.perf_counter() - started}


def approximate_search(
    folder: Path, factory: str, nprobe: int | None, neighbours: int, cap: int | None
) -> dict[str, Any]:
    """Build and search a FAISS index as an evaluation does; a second, untimed search counts multiplications."""
    problem = open_problem(folder)
    started = time.perf_counter()
    index = approximate.build_index(problem.documents, factory, nprobe, torch.device("cpu"))
    built = time.perf_counter()
    found = approximate.faiss_search(problem, index, candidates_per_token=neighbours, max_candidates=cap)
    searched = time.perf_counter()
    with _counted(problem, index) as count:
        approximate.faiss_search(problem, index, candidates_per_token=neighbours, max_candidates=cap)
    return {
        "index_s": built - started,
        "search_s": searched - built,
        "index_bytes": index.bytes,
        "search_multiply_adds": count[0],
        "found": _places(found),
    }


@contextmanager
def _counted(problem: Problem, index: approximate.TokenIndex) -> Iterator[list[int]]:
    """Count the multiply-adds of searches within the block: centroids, visited vectors, scored documents."""
    faiss, count, width = approximate.faiss_library(), [0], problem.documents.width
    inverted, graph = faiss.cvar.indexIVF_stats, faiss.cvar.hnsw_stats
    inverted.reset()
    graph.reset()
    names = vars(approximate)
    real = names["rank"]

    def counted(problem: Problem, query: int, documents: np.ndarray) -> Any:
        count[0] += int(problem.queries.lengths[query] * problem.documents.lengths[documents].sum()) * width
        return real(problem, query, documents)

    names["rank"] = counted
    try:
        yield count
    finally:
        names["rank"] = real
    lists = faiss.try_extract_index_ivf(index.index)
    centroids = lists.nlist * len(problem.queries.vectors) if lists else 0
    count[0] += (centroids + inverted.ndis + graph.ndis) * width


def plaid(folder: Path) -> dict[str, Any]:
    """PyLate's PLAID (fast-plaid) with its defaults."""
    from pylate import indexes

    with tempfile.TemporaryDirectory() as place:
        return _pylate(folder, indexes.PLAID(place, "plaid", override=True, show_progress=False, device="cpu"))


def voyager(folder: Path) -> dict[str, Any]:
    """PyLate's Voyager with its defaults."""
    from pylate import indexes

    with tempfile.TemporaryDirectory() as place:
        return _pylate(folder, indexes.Voyager(place, "voyager", override=True))


def scann(folder: Path) -> dict[str, Any]:
    """PyLate's ScaNN with its defaults."""
    from pylate import indexes

    with tempfile.TemporaryDirectory() as place:
        return _pylate(folder, indexes.ScaNN(place, "scann", override=True))


def _pylate(folder: Path, index: Any) -> dict[str, Any]:
    from pylate import retrieve

    problem = open_problem(folder)
    documents = [problem.documents[place].astype(np.float32) for place in range(len(problem.documents))]
    queries = [problem.queries[place].astype(np.float32) for place in range(len(problem.queries))]
    started = time.perf_counter()
    index.add_documents(documents_ids=[str(place) for place in range(len(documents))], documents_embeddings=documents)
    built = time.perf_counter()
    found = retrieve.ColBERT(index=index).retrieve(queries_embeddings=queries, k=DEPTH)
    searched = time.perf_counter()
    places = [
        [int(one["id"]) for one in row if int(one["id"]) != own] for row, own in zip(found, problem.own, strict=True)
    ]
    return {"index_s": built - started, "search_s": searched - built, "found": places}


def plain_loop(folder: Path) -> dict[str, Any]:
    """The obvious loop: each query against padded blocks of documents."""
    problem = open_problem(folder)
    started = time.perf_counter()
    longest = int(problem.documents.lengths.max())
    scores = torch.full((len(problem.queries), len(problem.documents)), -torch.inf)
    for first in range(0, len(problem.documents), 512):
        block = range(first, min(first + 512, len(problem.documents)))
        padded, mask = torch.zeros(len(block), longest, problem.documents.width), torch.zeros(len(block), longest)
        for row, place in enumerate(block):
            rows = torch.tensor(problem.documents[place]).float()
            padded[row, : len(rows)], mask[row, : len(rows)] = rows, 1
        for query in range(len(problem.queries)):
            rows = torch.tensor(problem.queries[query]).float()
            similarities = torch.einsum("qd,nld->nql", rows, padded).masked_fill(mask[:, None] == 0, -torch.inf)
            scores[query, block.start : block.stop] = similarities.amax(2).sum(1)
    scores[np.flatnonzero(problem.own >= 0), problem.own[problem.own >= 0]] = -torch.inf
    found = scores.topk(min(DEPTH, scores.shape[1])).indices.tolist()
    return {"index_s": 0.0, "search_s": time.perf_counter() - started, "found": found}


def _places(rankings: list[Ranking]) -> list[list[int]]:
    return [found.documents.tolist() for found in rankings]


def _line(result: dict[str, Any]) -> str:
    return f"index {result['index_s']:.1f} s, search {result['search_s']:.1f} s, nDCG@10 {result['ndcg@10']:.4f}"


PEERS: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    "plaid": ("fast_plaid", plaid),
    "voyager": ("voyager", voyager),
    "scann": ("scann", scann),
}
"""Name -> required package and measuring function."""
