"""The results of ``benchmarks.scale`` as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.format import bytes_text
from eval.report.formats.markdown import markdown_table

__all__ = ["markdown"]


def markdown(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of the measured parts."""
    writers = {
        "growth": _growth,
        "heads": _heads,
        "processes": _processes,
        "products": _products,
        "real": _real,
    }
    blocks = [
        "# One pass over a corpus",
        "Made-up corpora have documents of 12 to 39 words of SciFact. Their backbone is a tiny random one (two layers "
        "of width 64), so the speed of encoding says nothing about a real backbone. Memory is all that the process "
        "holds, without pages of mapped files. The predictions are those that an evaluation prints before it starts; "
        "1.10 is a prediction that is 10% above what was measured.",
    ]
    for name, part in parts.items():
        versions = ", ".join(f"{package} {version}" for package, version in part["versions"].items())
        made = f"`{part['command']}`: {part['device']}, {part['instructions']}, load {part['load']:.1f}; {versions}."
        blocks += ["\n".join(one) if isinstance(one, list) else one for one in writers[name](part)]
        blocks.append(made)
    return "\n\n".join(blocks) + "\n"


COSTS = ("time", "memory", "disk", "time predicted", "memory predicted", "disk predicted")
"""Columns of ``_costs``."""


def _costs(row: Mapping[str, Any]) -> list[str]:
    ratios = row["predicted_by_measured"]
    return [
        f"{row['evaluate_s']:.0f} s",
        bytes_text(row["peak_bytes"]),
        bytes_text(row["disk_bytes"]),
        *(f"{ratios[name]:.2f}" if name in ratios else "" for name in ("seconds", "memory", "disk")),
    ]


def _commands(rows: Sequence[Mapping[str, Any]]) -> str:
    commands = dict.fromkeys(row["command"] for row in rows)
    return f"Commands: {', '.join(f'`{command}`' for command in commands)}. The last one:"


def _growth(part: Mapping[str, Any]) -> list[Any]:
    rows = [
        [
            f"{row['documents']:,}",
            f"{1000 * row['evaluate_s'] / row['documents']:.2f} ms",
            *_costs(row),
            bytes_text(row["text_bytes"]),
            f"{row['load']:.1f}",
        ]
        for row in part["rows"]
    ]
    return [
        "## Seven heads, growing corpus",
        f"{part['queries']} queries. On a CPU, the process may not allocate more than "
        f"{bytes_text(part['memory_limit'])} (`RLIMIT_DATA`); results and text together may not take more than "
        f"{bytes_text(part['disk_limit'])} of disk.",
        markdown_table(["documents", "per document", *COSTS, "text in Arrow files", "load"], rows),
        _commands(part["rows"]),
    ]


def _heads(part: Mapping[str, Any]) -> list[Any]:
    return [
        "## What heads share",
        f"{part['documents']:,} documents: seven heads in one pass take {part['one_pass_s']:.0f} s, in seven passes "
        f"{part['seven_passes_s']:.0f} s, {part['times_faster']:.2f} times as long, with the same bytes.",
    ]


def _processes(part: Mapping[str, Any]) -> list[Any]:
    rows = [
        [name, f"{row['wall_s']:.0f} s", f"{row['speed_up']:.2f}", f"{row['processes']}"]
        for name, row in part["rows"].items()
    ]
    return [
        "## Several processes",
        f"{part['documents']:,} documents, seven heads, one thread for each process, {part['cores']} cores; run files "
        "have the same bytes. Times include the start of the processes.",
        markdown_table(["processes", "time", "speed-up", "ideal"], rows),
    ]


def _products(part: Mapping[str, Any]) -> list[Any]:
    rows = [
        [
            f"{row['documents']:,}",
            str(row["queries"]),
            row["first_pass"],
            f"{row['inside_s']:.1f} s",
            f"{row['bare_s']:.1f} s",
            f"{row['times']:.2f}",
            f"{row['load']:.1f}",
        ]
        for row in part["rows"]
    ]
    header = ["documents", "queries", "first pass", "search", "bare products", "times", "load"]
    return [
        "## Search inside the pass",
        "Exact search of one head, against the bare matrix products of the same vectors. After the first pass, "
        "a document is scored again only if it may still rank among the best; the further the pass, the fewer do.",
        markdown_table(header, rows),
        _commands(part["rows"]),
    ]


def _real(part: Mapping[str, Any]) -> list[Any]:
    rows = [[f"{name}, {way}", *_costs(row)] for name, ways in part["rows"].items() for way, row in ways.items()]
    return [
        "## Both ways, real collections",
        f"Seven heads on `{part['backbone']}`; run files have the same bytes.",
        markdown_table(["", *COSTS], rows),
    ]
