"""Tables and figures of the study, made only from the leaderboards in ``results/study/``.

``python -m benchmarks.study_tables`` writes ``results/study/tables.md`` and ``results/study/figures/``.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.study import BACKBONES, EXPERIMENTS
from benchmarks.study_figures import (
    NAMES,
    Board,
    by_pairs,
    by_start,
    effect_name,
    forest,
    learning_rates,
    main_effects,
)

RESULTS = Path("results/study")

TITLES = {
    "clip": "Gradient clipping",
    "clip-pydocs": "Gradient clipping, trained and tested on docstrings",
    "start": "Where training starts",
    "heads": "Depth, activation, skip, gate and width of the head",
    "rates": "Learning rates that queries of five collections choose",
    "scale": "Number of training pairs",
    "scale-more": "60,000 training pairs",
    "decay": "Weight decay",
    "width": "Width of the token embeddings",
    "domain": "Trained on long medical answers",
    "distill": "Distillation from a teacher's scores of hard negatives",
    "negatives": "Hard negatives without a teacher",
    "why": "Bands of queries, and smaller forms of storage",
    "centre": "Starts with the mean of the token states taken off",
    "layers": "Training layers of the backbone, too",
    "layers-top": "Training two layers of the backbone, too",
    "layers-all": "Training the whole backbone, too",
    "layers-slow": "Training the whole backbone at lower learning rates",
    "layers-linear": "The linear head at the rates that the others chose there",
}


def _by_all_pairs(boards: Mapping[str, Board]) -> bytes:
    """Draw the figure of ``scale`` with the largest number of pairs, which ``scale-more`` has."""
    complete = {}
    for backbone, board in boards.items():
        more = _board("scale-more", backbone)
        complete[backbone] = {**board, "rows": [*board["rows"], *(more["rows"] if more else ())]}
    return by_pairs(complete)


FOREST = ("Differences from linear on each dataset", forest)

FIGURES: dict[str, dict[str, tuple[str, Callable[[Mapping[str, Board]], bytes]]]] = {
    "start": {"scores-by-start": ("Scores of every head from every start", by_start)},
    "heads": {
        "learning-rates": ("Scores on development queries over the learning rate", learning_rates),
        "main-effects": ("Main effects of the factors", main_effects),
    },
    "scale": {"differences-by-pairs": ("Differences from linear over the number of pairs", _by_all_pairs)},
}
"""The figures of an experiment beside the differences on each dataset: file, what it shows, and what draws it."""


def main() -> int:
    """Write the tables and figures of every experiment that has results."""
    lines = ["# Tables of the study", "", "Made by `python -m benchmarks.study_tables` from the leaderboards.", ""]
    (RESULTS / "figures").mkdir(parents=True, exist_ok=True)
    for name in EXPERIMENTS:
        boards = {backbone: board for backbone in BACKBONES if (board := _board(name, backbone))}
        if boards:
            lines += [f"## {TITLES[name]}", "", *_links(name, boards), *_rows(boards), *_effects(boards)]
            for file, (says, draw) in ({name: FOREST} | FIGURES.get(name, {})).items():
                (RESULTS / "figures" / f"{file}.svg").write_bytes(draw(boards))
                lines += [f"![{says}: {TITLES[name]}](figures/{file}.svg)", ""]
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
        own_rates = board.get("own_rates")  # older leaderboards have none
        more = ["what its own rate changes, these queries"] if own_rates else []
        header = ["head", "nDCG@10", "these queries", "new queries", "verdict on these queries", "learning rate", *more]
        yield f"| {' | '.join(header)} |"
        yield f"|{'---|' * len(header)}"
        for row in (*board["rows"], *board["references"]):
            verdict, mean = row["verdict"], row["mean"][board["measure"]]
            here, new = (verdict["these_queries"], verdict["new_queries"]) if verdict else (None, None)
            word = here["word"] if here else "baseline" if row["kind"] == "baseline" else row["kind"]
            rates = sorted(set(row["costs"]["learning_rates"])) if row["costs"] else []
            cells = [_plain(row["label"]), _points(mean), _change(here), _change(new), word, " to ".join(_ends(rates))]
            if own_rates:
                against = own_rates.get(row["label"], {}).get("own_against_shared")
                cells.append(_change(against["these_queries"]) if against else "")
            yield f"| {' | '.join(cells)} |"
        yield ""


def _effects(boards: Mapping[str, Board]) -> Iterator[str]:
    """Yield a table of main effects and interactions, with a column for each backbone."""
    found: dict[str, dict[str, str]] = {}
    for backbone, board in boards.items():
        for grid in board["factors"]:
            for effect in (*grid["effects"]["main"], *grid["effects"]["interactions"]) if grid["effects"] else ():
                found.setdefault(_plain(effect_name(effect)), {})[backbone] = _change(effect["these_queries"])
    if not found:
        return
    yield f"| effect on these queries | {' | '.join(NAMES[one] for one in boards)} |"
    yield f"|---|{'---|' * len(boards)}"
    for name, by_backbone in found.items():
        yield f"| {name} | {' | '.join(by_backbone.get(one, '') for one in boards)} |"
    yield ""


def _ends(rates: Sequence[float]) -> list[str]:
    return [f"{rate:.2g}" for rate in dict.fromkeys([rates[0], rates[-1]])] if rates else []


def _plain(label: str) -> str:
    return label.replace("|", "\\|")


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _change(scope: Mapping[str, Any] | None) -> str:
    if scope is None or scope["low"] is None:
        return ""
    return f"{100 * scope['difference']:+.2f} [{100 * scope['low']:+.2f}, {100 * scope['high']:+.2f}]"


if __name__ == "__main__":
    sys.exit(main())
