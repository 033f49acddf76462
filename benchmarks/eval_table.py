"""The results of ``benchmarks.eval`` as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.eval_growth import CANDIDATES_PER_TOKEN, MAX_CANDIDATES
from eval.report.format import bytes_text
from eval.report.formats.markdown import markdown_table

__all__ = ["markdown"]


def markdown(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of the measured parts."""
    writers = {"encode": _encoding, "search": _search, "growth": _growth, "experiment": _experiment}
    blocks = ["# Evaluation benchmarks"]
    for name, part in parts.items():
        versions = ", ".join(f"{package} {version}" for package, version in part["versions"].items())
        made = f"`{part['command']}`: {part['device']}, {part['instructions']}; {versions}."
        blocks += [*writers[name.split("-")[0]](part), made]
    return "\n\n".join(blocks) + "\n"


def _encoding(part: Mapping[str, Any]) -> list[str]:
    fields = ("seconds", "documents_per_second", "times_faster_than_host_fp32")
    rows = [[name, *(f"{part[field][name]:.2f}" for field in fields)] for name in part["seconds"]]
    return [
        f"## Encoding, against {part['host']}",
        f"{part['documents']} SciFact documents; embeddings differ by at most {part['largest_difference']:.1g}. "
        f"The backbone's bare matrix products take {part['seconds_of_the_bare_products_fp32']:.1f} s: "
        f"no encoder can be more than {part['largest_possible_ratio_fp32']:.2f} times as fast as the host in fp32.",
        _table(["", "seconds", "documents per second", "speed relative to the host"], rows),
    ]


def _search(part: Mapping[str, Any]) -> list[str]:
    methods: Mapping[str, Any] = part["methods"]
    exact, measured = methods["exact"], {name: row for name, row in methods.items() if "skipped" not in row}
    plaid = _total(methods["plaid"]) if "plaid" in measured else None
    rows = []
    for name, row in measured.items():
        share = 1.0 if name == "exact" else row.get("share_of_exact_multiplications")
        rows.append(
            [
                f"`{name}`",
                f"{row['index_s']:.1f}",
                f"{row['search_s']:.1f}",
                f"{plaid / _total(row):.1f}" if plaid else "",
                bytes_text(row["memory_bytes"]),
                f"{row['ndcg@10']:.4f}",
                f"{row['ndcg@10'] - exact['ndcg@10']:+.4f}",
                "" if share is None else f"{100 * share:.1f}%",
            ]
        )
    ratios = []
    for name, ratio in exact.items():
        if name.startswith("times_bare_products"):
            how = name.split()[-1]
            bare = min(seconds for other, seconds in exact.items() if other.startswith(f"bare_products_s {how}"))
            seconds = exact[f"search_s {how}"]
            ratios.append(f"{seconds:.1f} s with a first pass in {how}, {ratio:.2f} times the products' {bare:.1f} s")
    skipped = "".join(f" {name}: {row['skipped']}." for name, row in methods.items() if "skipped" in row)
    return [
        "## Index and search",
        f"{part['queries']} queries ({part['query_vectors']} token vectors) of SciFact against {part['documents']} "
        f"documents ({part['document_vectors']} token vectors), top 100. Exact search compared with the bare matrix "
        f"products, alternating: {'; '.join(ratios)}. Memory is the peak beyond the bare process, including mapped "
        f"files.{skipped}",
        _table(
            [
                "",
                "index s",
                "search s",
                "speed relative to PLAID",
                "memory",
                "nDCG@10",
                "difference from exact",
                "multiplications relative to exact",
            ],
            rows,
        ),
    ]


def _growth(part: Mapping[str, Any]) -> list[str]:
    sums = part["arithmetic"]
    marco = sums["ms_marco"]
    stored = ", ".join(f"{form} {bytes_text(size)}" for form, size in marco["stored_bytes"].items())
    carried = [
        [
            method,
            f"{size:.1f}",
            f"{sums['vectors_in_memory'][method]:,}",
            f"{sums['documents_of_150_vectors_in_memory'][method]:,}",
            bytes_text(marco["bytes"][method]),
        ]
        for method, size in sums["bytes_per_vector"].items()
    ]
    return [
        "## Growth",
        f"{part['queries']} queries; real token vectors while they last, then noisy copies of them. Memory is beyond "
        "the bare process, without mapped files. Recall is of exact search's top 100; an index proposes "
        f"{CANDIDATES_PER_TOKEN} token vectors per query token, and {MAX_CANDIDATES} documents are scored.",
        "![Seconds and memory against the number of token vectors](eval-growth.png)",
        _table(
            ["token vectors", "method", "index s", "search s", "index", "memory", "recall@100"],
            [[f"{row['vectors']:,}", row["method"], *_grown(row)] for row in part["rows"]],
        ),
        f"What fits in {sums['memory_bytes'] / 1e9:.0f} GB at the bytes per vector of the largest size measured, and "
        f"what MS MARCO's {marco['passages']:,} passages of {marco['vectors_a_passage']} token vectors each would need "
        f"({marco['vectors'] / 1e6:.0f} million vectors; stored as {stored}). {'; '.join(sums['remarks'])}.",
        _table(["method", "bytes per vector", "vectors", "documents of 150 vectors", "MS MARCO"], carried),
    ]


def _grown(row: Mapping[str, Any]) -> list[str]:
    if "left_out" in row:
        return [row["left_out"], "", "", "", ""]
    recall = "" if row["recall_at_100"] is None else f"{row['recall_at_100']:.3f}"
    sizes = (bytes_text(row[name]) for name in ("index_bytes", "anonymous_bytes"))
    return [f"{row['index_s']:.1f}", f"{row['search_s']:.2f}", *sizes, recall]


def _experiment(part: Mapping[str, Any]) -> list[str]:
    blocks = [
        "## The evaluation of a complete experiment",
        f"{part['evaluations']} heads on one frozen backbone, {part['queries']} queries, {part['documents']} "
        f"documents, exact search: {part['ours_s']:.0f} s, of which {part['ours_encoding_s']:.0f} s to encode the "
        f"texts once and {part['ours_seconds_an_evaluation']:.1f} s per head.",
    ]
    if part["pylate_s_extrapolated"]:
        each = ", ".join(f"{seconds:.0f}" for seconds in part["pylate_seconds_an_evaluation"])
        blocks.append(
            f"With PyLate (encode, PLAID, retrieve), {part['pylate_evaluations_measured']} of them took {each} s; "
            f"all would take {part['pylate_s_extrapolated']:.0f} s, {part['times_faster']:.1f} times as long."
        )
    return blocks


def _total(row: Mapping[str, Any]) -> float:
    return float(row["index_s"] + row["search_s"])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(markdown_table(header, rows))
