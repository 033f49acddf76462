"""Shared by the parts of ``benchmarks.eval``: SciFact, token vectors, one process per measurement."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.measures import measure_run
from eval.search.ranking import Problem, priorities
from experiment.collections import open_collection
from experiment.collections.same_ids import excluded_places
from experiment.encoding.store import TokenStore
from experiment.encoding.tokens import encode_tokens
from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.hosts import load_host
from projheads.hosts.base import EncodingSettings, HostModel

__all__ = [
    "BACKBONE",
    "DEPTH",
    "Texts",
    "in_child",
    "make_model",
    "ndcg",
    "open_problem",
    "resident",
    "scifact",
    "write_vectors",
]

BACKBONE, WIDTH, DEPTH = "sentence-transformers/all-MiniLM-L6-v2", 128, 100


@dataclass(frozen=True)
class Texts:
    """Queries and documents of SciFact, or of a subset with all judged documents."""

    query_ids: list[str]
    queries: list[str]
    document_ids: list[str]
    documents: list[str]
    qrels: dict[str, dict[str, int]]


def scifact(folder: Path, documents: int) -> Texts:
    """Read SciFact's test queries, its judged documents, and the first others up to ``documents`` in total.

    Raises:
        ProjheadsError: If the folder is not a collection in BEIR layout.
    """
    if not (folder / "corpus.jsonl").exists():
        raise ProjheadsError(f"{folder}: not a collection in BEIR layout; pass SciFact's folder with --scifact")
    collection = open_collection(str(folder), split="test")
    judged = {name for grades in collection.qrels.values() for name in grades}
    others = [name for name in collection.corpus if name not in judged]
    chosen = judged | set(others[: max(0, documents - len(judged))])
    names = [name for name in collection.corpus if name in chosen]
    return Texts(
        list(collection.qrels),
        [collection.queries[name] for name in collection.qrels],
        names,
        [collection.corpus[name].passage for name in names],
        {query: dict(grades) for query, grades in collection.qrels.items()},
    )


def make_model(
    host: str, backbone: str = BACKBONE, spec: str = "linear", seed: int = 0, device: str | torch.device = "cpu"
) -> HostModel:
    """Create a model with an untrained head."""
    adapter = load_host(host)
    head = build_head(spec, adapter.backbone_width(backbone), WIDTH, generator=torch.Generator().manual_seed(seed))
    model: HostModel = adapter.create(backbone, head, EncodingSettings(), device=device)
    return model


def write_vectors(model: HostModel, texts: Texts, folder: Path) -> None:
    """Encode texts once and write their token vectors and ids for ``open_problem``."""
    if (folder / "documents-offsets.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "priority.npy", priorities(texts.document_ids))
    np.save(folder / "own.npy", excluded_places(texts.query_ids, texts.document_ids, texts.query_ids))
    for side, some in (("queries", texts.queries), ("documents", texts.documents)):
        store = encode_tokens(model, some, is_query=side == "queries", project=True, folder=folder / f"{side}-store")
        np.save(folder / f"{side}.npy", store.vectors)
        np.save(folder / f"{side}-offsets.npy", store.offsets)


def open_problem(folder: Path) -> Problem:
    """Open a folder's vectors as a search for the top ``DEPTH`` documents; documents stay on disk."""
    queries, documents = (
        TokenStore(np.load(folder / f"{side}.npy", mmap_mode="r"), np.load(folder / f"{side}-offsets.npy"))
        for side in ("queries", "documents")
    )
    return Problem(queries, documents, DEPTH, np.load(folder / "priority.npy"), np.load(folder / "own.npy"))


def ndcg(texts: Texts, found: list[list[int]]) -> float:
    """Return nDCG@10 of the document indices found for each query, best first."""
    run = {
        query: [(texts.document_ids[place], float(-rank)) for rank, place in enumerate(places)]
        for query, places in zip(texts.query_ids, found, strict=True)
    }
    values = measure_run(["nDCG@10"], texts.qrels, run)["nDCG@10"]
    return sum(values.values()) / len(values)


def in_child(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run a measurement in a separate process, and add its time and its memory beyond the bare process.

    ``memory_bytes`` includes pages of mapped files, which the system can reclaim; ``anonymous_bytes``, sampled fifty
    times a second, does not.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, function, *arguments).result()


def _measured(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    torch.ones(8, 8) @ torch.ones(8, 8)
    before, own, ended = resident("VmRSS"), resident("RssAnon"), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        watch = pool.submit(_most_anonymous, ended)
        started = time.perf_counter()
        try:
            result = function(*arguments)
        finally:
            seconds = time.perf_counter() - started
            ended.set()
    # Not getrusage, whose peak starts at the parent's.
    peak = resident("VmHWM")
    memory = {"memory_bytes": peak - before, "anonymous_bytes": watch.result() - own} if peak else {}
    return {**result, "wall_s": seconds, **memory}


def _most_anonymous(ended: threading.Event) -> int:
    most = resident("RssAnon")
    while not ended.wait(0.02):
        most = max(most, resident("RssAnon"))
    return most


def resident(name: str) -> int:
    """Read this process's memory: VmRSS (now), VmHWM (peak) or RssAnon (without files); 0 if not on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
