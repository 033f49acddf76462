"""Time and memory of each search as the corpus grows: real token vectors first, then noisy copies of them."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.eval_data import DEPTH, in_child
from eval.search.exact import exact_search
from eval.search.faiss_index import build_index, faiss_search
from eval.search.ranking import Problem
from experiment.encoding.store import TokenStore, offsets_of

__all__ = ["CANDIDATES_PER_TOKEN", "MAX_CANDIDATES", "draw_growth", "measure_growth"]

QUERIES, DOCUMENT_LENGTH, SPREAD = 20, 150, 0.5
CANDIDATES_PER_TOKEN, MAX_CANDIDATES = 64, 200
"""For an index: token vectors returned per query token, and documents scored per query."""

MEMORY = 24 * 10**9
PASSAGES, PASSAGE_LENGTH = 8_841_823, 70
"""MS MARCO's passages, and token vectors per passage: about 56 words, [CLS], the prefix, [SEP]; no punctuation."""

BLOCK = 2**18


def measure_growth(folder: Path, sizes: list[int], limit_s: float) -> dict[str, Any]:
    """Measure exact, IVF, IVF-PQ and HNSW search at each size, skipping those that would exceed the time limit.

    The time is extrapolated from the previous size, in proportion to the number of vectors.
    """
    rows: list[dict[str, Any]] = []
    before: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        for size in sizes:
            made, exact = in_child(_write_corpus, folder, Path(place), size), None
            for method in ("exact", "IVF", "IVF-PQ", "HNSW"):
                row: dict[str, Any] = {"vectors": size, "real_vectors": made["real"], "method": method}
                guess = before[method]["wall_s"] * size / before[method]["vectors"] if method in before else 0.0
                if guess > limit_s:
                    row["left_out"] = f"would take about {guess:.0f} s"
                else:
                    row |= in_child(_search, folder, Path(place), size, _factory(method, size))
                    before[method], found = row, row.pop("found")
                    exact = found if method == "exact" else exact
                    row["recall_at_100"] = _recall(exact, found) if exact else None
                rows.append(row)
                print(row, flush=True)
    return {"queries": QUERIES, "rows": rows, "arithmetic": _arithmetic(rows)}


def _recall(exact: list[np.ndarray], found: list[np.ndarray]) -> float:
    return float(np.mean([np.isin(*pair).mean() for pair in zip(exact, found, strict=True)]))


def _factory(method: str, size: int) -> str:
    lists = 2 ** int(np.log2(4 * np.sqrt(size)))
    return {
        "exact": "exact",
        "IVF": f"IVF{lists},SQfp16",
        "IVF-PQ": f"IVF{lists},PQ32np",
        "HNSW": "HNSW32,SQfp16",
    }[method]


def _write_corpus(folder: Path, place: Path, size: int) -> dict[str, Any]:
    """Write ``size`` float16 unit token vectors: those in the folder, then noisy copies of random ones."""
    real = np.load(folder / "documents.npy", mmap_mode="r")
    generator, width = np.random.default_rng(0), real.shape[1]
    with (place / f"{size}.bin").open("wb") as file:
        file.write(real[:size].tobytes())
        for first in range(len(real), size, BLOCK):
            count = min(BLOCK, size - first)
            rows = real[generator.integers(len(real), size=count)].astype(np.float32)
            rows += SPREAD / np.sqrt(width) * generator.standard_normal(rows.shape, dtype=np.float32)
            file.write((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).tobytes())
    return {"real": min(size, len(real))}


def _search(folder: Path, place: Path, size: int, factory: str) -> dict[str, Any]:
    queries = TokenStore(np.load(folder / "queries.npy"), np.load(folder / "queries-offsets.npy"))
    some = TokenStore(queries.vectors[: queries.offsets[QUERIES]], queries.offsets[: QUERIES + 1])
    vectors = np.memmap(place / f"{size}.bin", np.float16, "r").reshape(size, queries.width)
    lengths = np.full(-(-size // DOCUMENT_LENGTH), DOCUMENT_LENGTH)
    lengths[-1] = size - lengths[:-1].sum()
    documents = TokenStore(vectors, offsets_of(lengths))
    problem = Problem(some, documents, DEPTH, np.arange(len(documents)), np.full(QUERIES, -1))
    device, started = torch.device("cpu"), time.perf_counter()
    if factory == "exact":
        rankings = exact_search(problem, device=device)
        searched = time.perf_counter()
        found = [ranking.documents for ranking in rankings]
        return {"factory": factory, "index_s": 0.0, "search_s": searched - started, "index_bytes": 0, "found": found}
    index = build_index(documents, factory, None, device)
    built = time.perf_counter()
    rankings = faiss_search(problem, index, candidates_per_token=CANDIDATES_PER_TOKEN, max_candidates=MAX_CANDIDATES)
    searched = time.perf_counter()
    return {
        "factory": factory,
        "nprobe": index.nprobe,
        "index_s": built - started,
        "search_s": searched - built,
        "index_bytes": index.bytes,
        "found": [ranking.documents for ranking in rankings],
    }


def _arithmetic(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Compute what fits in 24 GB at each index's bytes per vector, and what MS MARCO's passages need."""
    largest = {row["method"]: row for row in rows if row.get("index_bytes")}
    bytes_per_vector = {method: row["index_bytes"] / row["vectors"] for method, row in largest.items()}
    total = PASSAGES * PASSAGE_LENGTH
    return {
        "memory_bytes": MEMORY,
        "bytes_per_vector": bytes_per_vector,
        "vectors_in_memory": {method: int(MEMORY / size) for method, size in bytes_per_vector.items()},
        "documents_of_150_vectors_in_memory": {
            method: int(MEMORY / size / DOCUMENT_LENGTH) for method, size in bytes_per_vector.items()
        },
        "ms_marco": {
            "passages": PASSAGES,
            "vectors_a_passage": PASSAGE_LENGTH,
            "vectors": total,
            "bytes": {method: int(total * size) for method, size in bytes_per_vector.items()},
            "stored_bytes": {"fp16": total * 256, "int8": total * 128, "dim64": total * 128, "pq16": total * 16},
        },
        "remarks": [
            "Exact search is limited only by the disk: 256 bytes per vector there, 256 MiB of them in memory at once",
            "an index is held in memory, and the fp16 vectors of the documents it proposes are read from disk",
        ],
    }


def draw_growth(growth: dict[str, Any], path: Path) -> None:
    """Plot seconds and memory against the number of vectors, as PNG and SVG."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "projheads"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    panels = (
        ("index_s", "seconds to index"),
        ("search_s", "seconds to search"),
        ("anonymous_bytes", "memory in GB, without mapped files"),
    )
    for axis, (key, label) in zip(axes, panels, strict=True):
        for number, method in enumerate(dict.fromkeys(row["method"] for row in growth["rows"])):
            points = [row for row in growth["rows"] if row["method"] == method and row.get(key)]
            values = [row[key] / (1e9 if key == "anonymous_bytes" else 1) for row in points]
            if points:
                axis.plot([row["vectors"] for row in points], values, marker="o", color=f"C{number}", label=method)
        axis.set(xscale="log", yscale="log", xlabel="token vectors", title=label)
        axis.grid(alpha=0.3)
    axes[1].legend()
    axes[2].axhline(MEMORY / 1e9, color="gray", linestyle="--", linewidth=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
