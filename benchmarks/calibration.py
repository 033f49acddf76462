"""Do the verdicts keep their promises? Experiments with a known truth are simulated, judged, and counted.

``python -m benchmarks.calibration [--experiments 1000] [--fit FOLDER] [--null FOLDER]`` writes results/calibration.json
and results/calibration.md.

A simulated score is ``difficulty[q] + seed[v, s] + query[v, q] + noise[v, s, q]``. The scatter of each part comes from
an experiment's real trials (``--fit``; without it from the numbers below). Query and noise parts have a volatility for
each query, for most queries hardly move between heads and a few move a lot, and the noise is zero half of the time, for
ranks often do not change at all. Heads differ in how much their seeds scatter, by a factor drawn anew each time.

Where no head differs, no variant may be called better in more than 5% of the experiments, and the intervals must cover
zero in 93 to 97%. Where one head is better, it is counted how often it is found; by what the experiment says it could
have shown, that must be about 80%. Beside it stands the plain two-level bootstrap of one difference.

``--null`` judges real trials of one variant against each other: its seeds are dealt out as if to several variants.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.report.load import load_experiment
from eval.report.table import build_leaderboard
from eval.verdicts import Scores, judge
from eval.verdicts.bootstrap import two_level_bootstrap
from eval.verdicts.model import paired_levels
from eval.verdicts.power import fit_design

Size = tuple[int, int, int]
"""Numbers of seeds, of queries of each data set, and of data sets."""
SEEDS, QUERIES, DATASETS = (3, 5, 10), (50, 300, 1000), (1, 4, 13)
SMALL = (SEEDS, (50, 300), (1, 4))
SCENES = {
    "seeds as fitted": (1.0, 7, 1.0, (SEEDS, QUERIES, DATASETS)),
    "seeds scatter three times as much": (3.0, 7, 1.0, SMALL),
    "seeds do not scatter": (0.0, 7, 1.0, SMALL),
    "one head's seeds scatter five times as much": (1.0, 7, 5.0, SMALL),
    "only one variant beside the baseline": (1.0, 2, 1.0, SMALL),
}
"""Factor on the scatter over seeds, number of variants, factor on one of them, and the sizes that are simulated."""
HALF = float(stats.norm.ppf(0.75))
"""Half of all normal draws lie within this; they become zeros."""
KEPT = float(np.sqrt(0.5 + 2 * HALF * stats.norm.pdf(HALF)))
"""Standard deviation of what is left."""
HEADS_DIFFER = 0.7
"""Standard deviation of the logarithm of a head's variance over seeds."""
GAINS = (0.005, 0.01, 0.02)
"""Differences whose chance to be found is counted."""
BOOTSTRAP_EVERY = 20
"""The bootstrap, which is slow, judges every twentieth experiment."""


@dataclass(frozen=True)
class Structure:
    """Scatter of one variant's per-query scores.

    Attributes:
        seed_sd: Standard deviation between seeds, on all queries alike.
        query_sd: Of what is peculiar to a head and a query, and stays over seeds.
        noise_sd: Of the rest.
        volatility: Quantiles of the queries' volatility, as factors on the last two; their mean square is 1.
        source: Where the numbers come from.
        variants: Number of variants, the baseline among them.
        outlier: Factor on ``seed_sd`` of one variant that is not the baseline.
    """

    seed_sd: float
    query_sd: float
    noise_sd: float
    volatility: tuple[float, ...]
    source: str
    variants: int = 7
    outlier: float = 1.0


def assumed_structure() -> Structure:
    """Return the structure that is used where no experiment is given."""
    quantiles = np.exp(1.2 * stats.norm.ppf((np.arange(40) + 0.5) / 40) / 2)
    return Structure(0.003, 0.05, 0.10, _normalised(quantiles), "assumed")


def fit_structure(folder: Path) -> Structure:
    """Take the structure from the trials of an experiment.

    Raises:
        ProjheadsError: If the folder holds no evaluated experiment.
    """
    board = build_leaderboard(load_experiment(folder))
    others = [one for label, one in board.scores.items() if label != board.baseline]
    parts = [paired_levels(one, board.scores[board.baseline]) for one in others]
    design = fit_design([part for part in parts if part.seeds > 1])
    seeds = board.scores[board.baseline].seeds
    volatility = []
    for index in range(len(board.datasets)):
        tables = np.stack([one.tables[index] for one in board.scores.values() if one.seeds == seeds])
        volatility.append((tables - tables.mean(axis=1, keepdims=True)).std(axis=(0, 1)))
    queries = np.mean([1 / count for count in design.queries]) / len(design.queries)
    return Structure(
        seed_sd=float(np.sqrt(design.seed_variance / 2)),
        query_sd=float(np.sqrt(design.query_variance / 2 / queries)),
        noise_sd=float(np.sqrt(design.noise_variance / 2 / queries)),
        volatility=_normalised(np.quantile(np.concatenate(volatility), (np.arange(40) + 0.5) / 40)),
        source=board.experiment.name,
    )


def simulate(structure: Structure, generator: np.random.Generator, size: Size) -> dict[str, Scores]:
    """Draw one experiment in which no head differs."""
    (seeds, queries, datasets), variants = size, structure.variants
    scatter = structure.seed_sd * np.exp(HEADS_DIFFER * generator.standard_normal(variants) / 2)
    scatter[1] *= structure.outlier
    seed_part = scatter[:, None] * generator.standard_normal((variants, seeds))
    tables: list[list[NDArray[np.float64]]] = [[] for _ in range(variants)]
    for _ in range(datasets):
        # A seed's effect is in part peculiar to the data set; the two parts add up to its variance on one data set.
        own = scatter[:, None] * generator.standard_normal((variants, seeds))
        volatility = generator.choice(structure.volatility, size=queries)
        query_part = structure.query_sd * volatility * generator.standard_normal((variants, 1, queries))
        noise = generator.standard_normal((variants, seeds, queries))
        noise[np.abs(noise) < HALF] = 0.0
        noise *= structure.noise_sd / KEPT * volatility
        scores = np.sqrt(0.5) * (seed_part + own)[..., None] + query_part + noise
        for variant in range(variants):
            tables[variant].append(scores[variant])
    return {f"v{variant}": Scores(tuple(range(seeds)), tuple(tables[variant])) for variant in range(variants)}


def null_cell(structure: Structure, size: Size, *, experiments: int, random: Sequence[int]) -> dict[str, Any]:
    """Judge experiments in which no head differs."""
    generator = np.random.default_rng([*random, 0])
    covered = bootstrap_covered = bootstrapped = called = 0
    foreseen = []
    for number in range(experiments):
        scores = simulate(structure, generator, size)
        verdicts = judge(scores, "v0").values()
        covered += sum(verdict.low <= 0 <= verdict.high for verdict in verdicts)
        called += any(verdict.word == "better" for verdict in verdicts)
        foreseen += [verdict.smallest_shown for verdict in verdicts if verdict.smallest_shown is not None]
        if number % BOOTSTRAP_EVERY == 0:
            pair = zip(scores["v1"].tables, scores["v0"].tables, strict=True)
            low, high = two_level_bootstrap([a - b for a, b in pair], generator, draws=300)
            bootstrapped += 1
            bootstrap_covered += low <= 0 <= high
    return {
        **dict(zip(("seeds", "queries", "datasets"), size, strict=True)),
        "experiments": experiments,
        "called_better": _share(called, experiments),
        "coverage": _share(covered, experiments * (structure.variants - 1)),
        "bootstrap_coverage": _share(bootstrap_covered, bootstrapped),
        "could_have_shown": float(np.mean(foreseen)),
    }


def power_table(
    structure: Structure, size: Size, shown: float, *, experiments: int, random: Sequence[int]
) -> list[dict[str, float]]:
    """Count how often one head that is better is found: by the usual gains, and by what could be shown."""
    generator = np.random.default_rng([*random, 1])
    gains = (*GAINS, shown)
    found = dict.fromkeys(gains, 0)
    for _ in range(experiments):
        scores = simulate(structure, generator, size)
        for gain in gains:
            better = Scores(scores["v1"].seeds, tuple(table + gain for table in scores["v1"].tables))
            found[gain] += judge(scores | {"v1": better}, "v0")["v1"].word == "better"
    return [{"gain": gain, **_share(count, experiments)} for gain, count in found.items()]


def real_null(folder: Path, *, seeds: int, experiments: int, random: int) -> dict[str, Any]:
    """Deal one variant's trials out to as many pretended variants as they suffice for, and judge those."""
    board = build_leaderboard(load_experiment(folder))
    label = max(board.scores, key=lambda name: len(board.scores[name].seeds))
    tables, available = board.scores[label].tables, len(board.scores[label].seeds)
    pretended = available // seeds
    generator = np.random.default_rng(random)
    called = covered = total = 0
    for _ in range(experiments):
        order = generator.permutation(available)
        hands = [order[hand * seeds : (hand + 1) * seeds] for hand in range(pretended)]
        scores = {f"v{i}": Scores(tuple(range(seeds)), tuple(t[hand] for t in tables)) for i, hand in enumerate(hands)}
        verdicts = judge(scores, "v0").values()
        called += any(verdict.word == "better" for verdict in verdicts)
        covered += sum(verdict.low <= 0 <= verdict.high for verdict in verdicts)
        total += len(verdicts)
    return {
        "experiment": board.experiment.name,
        "variant": label,
        "trials": available,
        "seeds": seeds,
        "pretended_variants": pretended,
        "experiments": experiments,
        "called_better": called / experiments,
        "coverage": covered / total,
    }


def markdown(result: dict[str, Any]) -> str:
    """Write the result as tables."""
    structure = result["structure"]
    lines = [
        "# Calibration of the verdicts",
        "",
        f"{structure['variants']} variants, {result['experiments']} simulated experiments a line; made by `python -m "
        "benchmarks.calibration`, which says how. "
        f"Scatter of a score: {structure['source']} (points: seed {100 * structure['seed_sd']:.2f}, query "
        f"{100 * structure['query_sd']:.2f}, noise {100 * structure['noise_sd']:.2f}).",
        "",
    ]
    for name, cells in result["cells"].items():
        header = ["seeds", "queries", "data sets", "any called better [95%]", "intervals that cover", "plain bootstrap"]
        if "power" in cells[0]:
            header += [*(f"finds {100 * gain:g}" for gain in GAINS), "could have shown, points", "finds that"]
        lines += [f"## {name.capitalize()}", "", *_table(header, [_cell_texts(cell) for cell in cells]), ""]
    for null in result["real_null"]:
        lines += [
            f"Real null: {null['trials']} trials of {null['variant']} ({null['experiment']}) dealt out "
            f"{null['experiments']} times as {null['pretended_variants']} variants of {null['seeds']} seeds: any "
            f"called better {_percent(null['called_better'])}, intervals that cover {_percent(null['coverage'])}.",
            "",
        ]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---:"] * len(header), *rows)]


def _cell_texts(cell: dict[str, Any]) -> list[str]:
    called = cell["called_better"]
    texts = [
        *(str(cell[key]) for key in ("seeds", "queries", "datasets")),
        f"{_percent(called['share'])} [{_percent(called['low'])}, {_percent(called['high'])}]",
        _percent(cell["coverage"]["share"]),
        _percent(cell["bootstrap_coverage"]["share"]),
    ]
    if "power" in cell:
        *usual, shown = (_percent(one["share"]) for one in cell["power"])
        texts += [*usual, f"{100 * cell['could_have_shown']:.2f}", shown]
    return texts


def main(arguments: Sequence[str]) -> None:
    """Run the calibration and write its results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000, help="simulated experiments of each size")
    parser.add_argument("--fit", type=Path, help="experiment whose trials give the scatter")
    parser.add_argument(
        "--null", type=Path, action="append", default=[], help="experiment with many seeds of a variant"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder of the results")
    options = parser.parse_args(arguments)
    structure = fit_structure(options.fit) if options.fit else assumed_structure()
    result = {
        "experiments": options.experiments,
        "seed": options.seed,
        "structure": asdict(structure),
        "cells": {name: list(_cells(structure, name, options)) for name in SCENES},
        "real_null": [
            real_null(folder, seeds=seeds, experiments=options.experiments, random=options.seed)
            for folder in options.null
            for seeds in (3, 5)
        ],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "calibration.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.output / "calibration.md").write_text(markdown(result), encoding="utf-8")


def _cells(structure: Structure, name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    scale, variants, outlier, sizes = SCENES[name]
    scene = replace(structure, seed_sd=scale * structure.seed_sd, variants=variants, outlier=outlier)
    for number, size in enumerate(product(*sizes)):
        random = (options.seed, list(SCENES).index(name), number)
        cell = null_cell(scene, size, experiments=options.experiments, random=random)
        if name == next(iter(SCENES)):
            few, shown = options.experiments // 10, cell["could_have_shown"]
            cell["power"] = power_table(scene, size, shown, experiments=few, random=random)
        print(name, *size, cell["called_better"], cell["coverage"]["share"], flush=True)
        yield cell


def _share(hits: int, total: int) -> dict[str, float]:
    """Return a share with its exact 95% interval (Clopper and Pearson, 1934)."""
    ends = stats.binomtest(hits, total).proportion_ci()
    return {"share": hits / total, "low": float(ends.low), "high": float(ends.high)}


def _normalised(quantiles: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in quantiles / np.sqrt(np.mean(np.square(quantiles))))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


if __name__ == "__main__":
    main(sys.argv[1:])
