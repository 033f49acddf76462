"""Do the verdicts keep their promises? Experiments with a known truth are simulated, judged, and counted.

``python -m benchmarks.calibration [--experiments 2000] [--fit FOLDER] [--null FOLDER] [--seed N]`` writes
results/calibration.json and results/calibration.md. ``benchmarks/calibration_draws.py`` says what is simulated. The
scatter is the quickstart's, or with ``--fit`` that of an experiment's real trials. ``--null`` judges real trials of one
variant against each other: its seeds are dealt out as if to several variants.

The code that judges is the code that reports use. Every share has its exact 95% interval.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import calibration_calls as calls
from benchmarks import calibration_power as found
from benchmarks.calibration_draws import Row, Run, Scatter, percent
from eval.report.formats.markdown import markdown_table
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.verdicts.variance import differences
from experiment.disk.files import write_json, write_text


@dataclass(frozen=True)
class Section:
    """A table of the results.

    Attributes:
        title: Its title.
        about: What is counted, and what is promised.
        rows: Its lines.
        share: How many times the usual number of experiments it simulates.
    """

    title: str
    about: str
    rows: Callable[[Run], Iterable[Row]]
    share: float = 1.0


SECTIONS = (
    Section(
        "False calls",
        "Experiments without any difference in which some variant is called better or worse: at most 5% is promised. "
        "Coverage is that of each head's own 95% interval, of the head that it covers least.",
        calls.false_calls,
    ),
    Section(
        "Two fixed models",
        "One seed of each; the verdict is about these two models and new queries. At most 5%.",
        calls.one_seed,
        2.0,
    ),
    Section(
        "Equivalence",
        "Every variant differs by the resolution, 2 points: called equivalent, or worse, in at most 5%.",
        calls.equivalence,
        0.5,
    ),
    Section(
        "Looks",
        "Wrong decisions over all looks: at most 5%. Resolution 2 points, 200 queries. Decided and trials are for "
        "these queries, with the baseline at every look.",
        calls.looks,
        0.5,
    ),
    Section(
        "Cells of data sets",
        "Experiments without any difference in which a cell is coloured: at most 5%.",
        calls.cells,
        0.25,
    ),
    Section(
        "Power",
        "The difference, in points, that is shown with 80% probability among 6 variants; before: by the method that "
        "was here before, for new queries.",
        found.power,
        0.25,
    ),
    Section(
        "Plans",
        "How often a new experiment shows what an earlier one promised to show with 80% probability, for new queries.",
        found.plans,
        0.25,
    ),
    Section(
        "The winner's luck",
        "The largest difference, in points: as found, as it is, and as the shrunk estimate says. 5 seeds, 300 queries.",
        found.winners,
        0.25,
    ),
    Section(
        "Races",
        "Heads leave at 3, 4, 6, 8, 10 and 12 seeds; the winner's gain is then measured on 5 new seeds.",
        found.races,
        0.02,
    ),
    Section(
        "Factors",
        "Grids without any effect: main effects and two-way interactions, false in at most 5%.",
        calls.factors,
        0.5,
    ),
    Section(
        "Effects over looks",
        "Grids without any effect, to which seeds are added: by hand, with effects read at 3, 5, 8, 12 and 20 seeds, "
        "or in rounds of 3 to 12 seeds until every variant is decided, with effects read at the end. False in at most "
        "5%; uncorrected: with every look judged as a single one.",
        calls.effects_over_looks,
        0.5,
    ),
    Section(
        "Trials astray",
        "Experiments in which a trial is named, and how often one that is 12 points low is.",
        calls.astray,
        0.25,
    ),
)


def text(value: Any) -> str:
    """Write a cell."""
    if isinstance(value, dict):
        return f"{percent(value['share'])} [{percent(value['low'])}, {percent(value['high'])}]"
    return str(value)


def fit_scatter(folder: Path) -> Scatter:
    """Take the scatter from the trials of an experiment.

    Raises:
        ProjheadsError: If the folder holds no evaluated experiment.
    """
    board = build_leaderboard(load_experiment(folder))
    found = [
        one for one in differences(board.scores, board.baseline).values() if min(one.seeds, one.baseline_seeds) > 1
    ]
    queries = float(np.mean([1 / count for count in found[0].queries])) / len(found[0].queries)
    noise = [part.noise for one in found for part in (one.own, one.shared)]
    seeds = [part.variance - part.noise for one in found for part in (one.own, one.shared)]
    return Scatter(
        seed=float(np.sqrt(max(0.0, float(np.mean(seeds))))),
        query=float(np.sqrt(np.mean([one.query_part for one in found]) / 2 / queries)),
        noise=float(np.sqrt(np.mean(noise) / queries)),
    )


def worst(result: Mapping[str, Any]) -> str:
    """Say the worst of each promise."""
    every = [(name, value) for rows in result.values() for row in rows for name, value in row.items()]
    said = []
    for title, keys in (
        ("false calls", "false calls"),
        ("coverage", "coverage"),
        ("wrong over looks or of equivalence", "wrong"),
        ("false effects", "false effects"),
    ):
        found = [value for name, value in every if name.startswith(keys)]
        if found:
            chosen = (min if keys == "coverage" else max)(found, key=lambda one: float(one["share"]))
            said.append(f"{title} {text(chosen)}")
    return f"The worst line of each promise: {'; '.join(said)}."


def markdown(result: Mapping[str, Any]) -> str:
    """Write the result as tables."""
    scatter = result["scatter"]
    lines = [
        "# Calibration of the verdicts",
        "",
        f"Made by `python -m benchmarks.calibration` with random seed {result['seed']}. Scatter of a score, in points: "
        f"seed {100 * scatter['seed']:.2f}, query {100 * scatter['query']:.2f}, noise {100 * scatter['noise']:.2f}. "
        "Six variants, a baseline and 300 queries of one data set where a line names no other number. In brackets the "
        "exact 95% interval of a share.",
        "",
        worst({name: one["rows"] for name, one in result["sections"].items()}),
        "",
    ]
    for name, one in result["sections"].items():
        rows = one["rows"]
        lines += [f"## {name}", "", f"{one['about']} {one['experiments']} experiments a line.", ""]
        lines += [*markdown_table(list(rows[0]), ([text(value) for value in row.values()] for row in rows)), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Run the calibration and write its results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=2000, help="simulated experiments a line of the first table")
    parser.add_argument("--fit", type=Path, help="experiment whose trials give the scatter")
    parser.add_argument(
        "--null", type=Path, action="append", default=[], help="experiment with many seeds of a variant"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        help="title of a table to make again among the present ones; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder of the results")
    options = parser.parse_args(arguments)
    scatter = fit_scatter(options.fit) if options.fit else Scatter()
    kept = options.output / "calibration.json"
    sections: dict[str, Any] = json.loads(kept.read_text())["sections"] if options.only and kept.exists() else {}
    for title in options.only:
        sections.pop(title, None)
    nulls = [
        Section(
            "Real nulls",
            "Real trials of one variant, dealt out as if to several: at most 5%.",
            partial(calls.real_null, folder),
        )
        for folder in options.null
    ]
    for section in (*SECTIONS, *nulls):
        if options.only and section.title not in options.only:
            continue
        run = Run(max(20, round(section.share * options.experiments)), options.seed, scatter)
        rows = []
        for row in section.rows(run):
            rows.append(row)
            print(
                time.strftime("%H:%M:%S"),
                section.title,
                *(text(value) for value in row.values()),
                sep=" | ",
                flush=True,
            )
        earlier = sections.get(section.title, {"rows": []})["rows"]
        sections[section.title] = {"about": section.about, "experiments": run.experiments, "rows": earlier + rows}
    order = [section.title for section in (*SECTIONS, *nulls)]
    sections = dict(sorted(sections.items(), key=lambda one: order.index(one[0]) if one[0] in order else len(order)))
    result = {"seed": options.seed, "scatter": vars(scatter), "sections": sections}
    write_json(options.output / "calibration.json", result)
    write_text(options.output / "calibration.md", markdown(result))


if __name__ == "__main__":
    main(sys.argv[1:])
