"""Tables and figures of the study, made only from the leaderboards in ``results/study/``.

``python -m benchmarks.study_tables`` writes ``results/study/tables.md`` and ``results/study/figures/``.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.study import BACKBONES, EXPERIMENTS
from eval.report.canvas import new_figure
from eval.report.drawing import ACCENT, BETTER, FAINT, INK, NEUTRAL, WORSE, style, svg_bytes

RESULTS = Path("results/study")

Board = Mapping[str, Any]

TITLES = {
    "clip": "Gradient clipping",
    "clip-pydocs": "Gradient clipping, trained and tested on docstrings",
    "start": "Where training starts",
    "heads": "Depth, activation, skip, gate and width of the head",
    "scale": "Number of training pairs",
    "decay": "Weight decay",
    "width": "Width of the token embeddings",
    "domain": "Trained on long medical answers",
    "distill": "Distillation from a teacher's scores of hard negatives",
    "negatives": "Hard negatives without a teacher",
    "layers": "Training layers of the backbone, too",
}

NAMES = {"minilm": "MiniLM", "e5": "e5-small"}

STARTS = {
    "torch": "random, each head its own",
    "shared": "random, the same map",
    "svd": "SVD of matched tokens",
    "pca": "PCA of the token states",
}
"""The starts from top to bottom, and what the figure calls them."""

MARKS = (("o", BETTER), ("s", WORSE), ("D", ACCENT), ("^", NEUTRAL))
"""Marker and colour of each head."""


def main() -> int:
    """Write the tables and figures of every experiment that has results."""
    lines = ["# Tables of the study", "", "Made by `python -m benchmarks.study_tables` from the leaderboards.", ""]
    (RESULTS / "figures").mkdir(parents=True, exist_ok=True)
    for name in EXPERIMENTS:
        boards = {backbone: board for backbone in BACKBONES if (board := _board(name, backbone))}
        if boards:
            lines += [f"## {TITLES[name]}", "", *_links(name, boards), *_rows(boards), *_effects(boards)]
            (RESULTS / "figures" / f"{name}.svg").write_bytes(_forest(boards))
            lines += [f"![Differences from linear on each dataset: {TITLES[name]}](figures/{name}.svg)", ""]
            if name == "start":
                (RESULTS / "figures" / "scores-by-start.svg").write_bytes(_starts(boards))
    (RESULTS / "tables.md").write_text("\n".join(lines), encoding="utf-8")
    return 0


def _board(name: str, backbone: str) -> Board | None:
    file = RESULTS / f"{name}-{backbone}" / "leaderboard.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def _links(name: str, boards: Mapping[str, Board]) -> Iterator[str]:
    pages = ", ".join(f"[{NAMES[one]}]({name}-{one}/leaderboard.md)" for one in boards)
    yield f"Leaderboards: {pages}. Configuration: `configs/study/{EXPERIMENTS[name][0]}.yaml`."
    yield ""


def _rows(boards: Mapping[str, Board]) -> Iterator[str]:
    """Yield a table of scores and differences for each backbone."""
    for backbone, board in boards.items():
        datasets = ", ".join(one["name"] for one in board["datasets"])
        yield f"{NAMES[backbone]}: {board['measure']}, the mean over {datasets}, and the difference from linear:"
        yield ""
        yield "| head | nDCG@10 | these queries | new queries | verdict on these queries | learning rate |"
        yield "|---|---|---|---|---|---|"
        for row in (*board["rows"], *board["references"]):
            verdict, mean = row["verdict"], row["mean"][board["measure"]]
            here, new = (verdict["these_queries"], verdict["new_queries"]) if verdict else (None, None)
            word = here["word"] if here else "baseline" if row["kind"] == "baseline" else row["kind"]
            rates = sorted(set(row["costs"]["learning_rates"])) if row["costs"] else []
            cells = [_plain(row["label"]), _points(mean), _change(here), _change(new), word, " to ".join(_ends(rates))]
            yield f"| {' | '.join(cells)} |"
        yield ""


def _effects(boards: Mapping[str, Board]) -> Iterator[str]:
    """Yield a table of main effects and interactions, with a column for each backbone."""
    found: dict[str, dict[str, str]] = {}
    for backbone, board in boards.items():
        for grid in board["factors"]:
            for effect in (*grid["effects"]["main"], *grid["effects"]["interactions"]) if grid["effects"] else ():
                found.setdefault(_effect_name(effect), {})[backbone] = _change(effect["these_queries"])
    if not found:
        return
    yield f"| effect on these queries | {' | '.join(NAMES[one] for one in boards)} |"
    yield f"|---|{'---|' * len(boards)}"
    for name, by_backbone in found.items():
        yield f"| {name} | {' | '.join(by_backbone.get(one, '') for one in boards)} |"
    yield ""


def _effect_name(effect: Mapping[str, Any]) -> str:
    changes = zip(effect["factors"], effect["levels"], effect["against"], strict=True)
    return _plain(" x ".join(f"{factor}: {level} instead of {against}" for factor, level, against in changes))


def _forest(boards: Mapping[str, Board]) -> bytes:
    """Draw each row's difference on each dataset and over all, a panel for each backbone."""
    with style():
        labels = [row["label"] for row in next(iter(boards.values()))["rows"] if row["verdict"]]
        figure, first = new_figure(4.2 * len(boards), 0.9 + 0.34 * len(labels))
        first.remove()
        for number, (backbone, board) in enumerate(boards.items()):
            axes = figure.add_subplot(1, len(boards), number + 1)
            axes.axvline(0, color=INK, linewidth=0.8)
            rows = {row["label"]: row for row in board["rows"] if row["verdict"]}
            for place, label in enumerate(labels):
                if label in rows:
                    _draw_row(axes, place, rows[label])
            names = [""] * len(labels) if number else [_short(label) for label in labels]
            axes.set_yticks(range(len(labels)), names)
            axes.invert_yaxis()
            axes.set_title(NAMES[backbone])
            axes.set_xlabel("difference from linear in points")
        figure.tight_layout()
        return svg_bytes(figure)


def _draw_row(axes: Any, place: int, row: Mapping[str, Any]) -> None:
    for verdict in row["dataset_verdicts"].values():
        axes.plot(100 * verdict["difference"], place, "o", color=WORSE, markersize=3, alpha=0.7)
    here = row["verdict"]["these_queries"]
    if here["low"] is not None:
        axes.plot([100 * here["low"], 100 * here["high"]], [place, place], color=BETTER, linewidth=2.5)
    axes.plot(100 * here["difference"], place, "o", color=BETTER, markersize=5)


def _starts(boards: Mapping[str, Board]) -> bytes:
    """Draw the score of every head from every start, a panel for each backbone."""
    with style():
        figure, first = new_figure(6.4 * len(boards), 2.9)
        first.remove()
        for number, (backbone, board) in enumerate(boards.items()):
            axes, measure = figure.add_subplot(1, len(boards), number + 1), board["measure"]
            scores = {tuple(row["label"].split(" @ init=")): row for row in board["rows"]}
            heads = list(dict.fromkeys(head for head, _ in scores))
            for place, start in enumerate(STARTS):
                axes.axhline(place, color=FAINT, linewidth=0.8, zorder=0)
                for shift, (head, (marker, colour)) in enumerate(zip(heads, MARKS, strict=True)):
                    row = scores[head, start]
                    axes.errorbar(
                        100 * row["mean"][measure],
                        place + 0.16 * (shift - 1.5),
                        xerr=100 * row["spread"][measure],
                        fmt=marker,
                        color=colour,
                        markersize=5,
                        label=None if place else head,
                    )
            own = next(one["mean"][measure] for one in board["references"] if one["label"] == "backbone")
            axes.axvline(100 * own, color=INK, linewidth=0.8, linestyle=":", label="the backbone's own tokens")
            axes.set_yticks(range(len(STARTS)), [] if number else list(STARTS.values()))
            axes.invert_yaxis()
            datasets = [one["name"] for one in board["datasets"]]
            over = datasets[0] if len(datasets) == 1 else f"{len(datasets)} collections"
            axes.set_title(f"{NAMES[backbone]}, {over}")
            axes.set_xlabel(f"{measure} in points, mean and standard deviation over ten seeds")
        figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
        figure.tight_layout(rect=(0, 0.14, 1, 1))
        return svg_bytes(figure)


def _ends(rates: Sequence[float]) -> list[str]:
    return [f"{rate:.2g}" for rate in dict.fromkeys([rates[0], rates[-1]])] if rates else []


def _plain(label: str) -> str:
    return label.replace("|", "\\|")


def _short(label: str) -> str:
    return label if len(label) <= 62 else f"{label[:61]}\N{HORIZONTAL ELLIPSIS}"


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _change(scope: Mapping[str, Any] | None) -> str:
    if scope is None or scope["low"] is None:
        return ""
    return f"{100 * scope['difference']:+.2f} [{100 * scope['low']:+.2f}, {100 * scope['high']:+.2f}]"


if __name__ == "__main__":
    sys.exit(main())
