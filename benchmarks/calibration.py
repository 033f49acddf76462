"""Checks the verdicts' error rates on simulated experiments with a known truth.

``python -m benchmarks.calibration [--experiments 1000] [--fit FOLDER] [--null FOLDER] [--seed N]`` writes
results/calibration.json and results/calibration.md. Finished sizes are kept in ``--cache``; rerun the command after an
interruption and it resumes.

A simulated score is ``difficulty[q] + seed[v, s] + query[v, q] + noise[v, s, q]``. The variance of each part is fitted
to an experiment's real trials (``--fit``; otherwise the numbers below are used). The query and noise parts are scaled
by a volatility per query, because most queries hardly move between heads and a few move a lot. The noise is zero half
of the time, because ranks often do not change at all. Heads differ in their variance over seeds, by a factor redrawn
for each experiment. The scenes of one size differ only in that variance and share all other draws.

If no head differs, at most 5% of the experiments may call any variant better, and the intervals must cover zero in 93
to 97% of cases. If one head is better, the benchmark counts how often it is found; for the average difference that the
experiments say they could have detected, that must be about 80%. The plain two-level bootstrap is shown for
comparison.

``--null`` judges real trials of one variant against each other: its seeds are divided among several pretended variants.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from eval.report.formats.markdown import markdown_table
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.verdicts import ALPHA, Scores, judge
from eval.verdicts.bootstrap import two_level_bootstrap
from eval.verdicts.judge import smallest_shown, weigh
from eval.verdicts.power import fit_design
from eval.verdicts.variance import Levels, join_levels, paired_levels, take_apart
from experiment.disk.files import read_json, sha256_json, write_json, write_text

FloatArray = NDArray[np.float64]
Size = tuple[int, int, int]
"""Numbers of seeds, of queries per dataset, and of datasets."""

CALIBRATION_VERSION = 2
"""Incremented when a change alters the simulated numbers or how they are judged."""

SIZES: tuple[Size, ...] = tuple(product((3, 5, 10), (50, 200, 1000), (1, 3, 13)))
VARIANTS = 7


@dataclass(frozen=True)
class Scene:
    """Variance over seeds: a factor for all heads, an extra factor for one head, and the number of variants."""

    seeds: float = 1.0
    one_head: float = 1.0
    variants: int = VARIANTS


SCENES = {
    "seeds as fitted": Scene(),
    "seeds scatter three times as much": Scene(seeds=3.0),
    "seeds do not scatter": Scene(seeds=0.0),
    "one head's seeds scatter five times as much": Scene(one_head=5.0),
    "only one variant besides the baseline": Scene(variants=2),
}
HALF = float(stats.norm.ppf(0.75))
"""Half of all normal draws are within this bound; they become zeros."""
KEPT = float(np.sqrt(0.5 + 2 * HALF * stats.norm.pdf(HALF)))
"""Standard deviation of the remaining draws."""
HEADS_DIFFER = 0.7
"""Standard deviation of the logarithm of a head's variance over seeds."""
GAINS = (0.005, 0.01, 0.02)
"""Differences for which the power is counted."""
BOOTSTRAP_EVERY = 20
"""The slow bootstrap judges only every twentieth experiment of the first scene."""


@dataclass(frozen=True)
class Structure:
    """Variability of a variant's per-query scores.

    Attributes:
        seed_sd: Standard deviation between seeds, common to all queries.
        query_sd: Standard deviation of the effect specific to a head and a query, common to all seeds.
        noise_sd: Standard deviation of the remainder.
        volatility: Quantiles of the queries' volatility, as factors of the last two; their mean square is 1.
        source: Where the numbers come from.
    """

    seed_sd: float
    query_sd: float
    noise_sd: float
    volatility: tuple[float, ...]
    source: str


def assumed_structure() -> Structure:
    """Return the structure used if no experiment is given."""
    quantiles = np.exp(1.2 * stats.norm.ppf((np.arange(40) + 0.5) / 40) / 2)
    return Structure(0.003, 0.05, 0.10, _normalised(quantiles), "assumed")


def fit_structure(folder: Path) -> Structure:
    """Fit the structure to the trials of an experiment.

    Raises:
        ProjheadsError: If the folder does not contain an evaluated experiment.
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


def draw_queries(structure: Structure, generator: np.random.Generator, size: Size) -> list[FloatArray]:
    """Draw the query effects: for each dataset an array (variants, seeds, queries)."""
    seeds, queries, datasets = size
    tables = []
    for _ in range(datasets):
        volatility = generator.choice(structure.volatility, size=queries)
        query_part = structure.query_sd * volatility * generator.standard_normal((VARIANTS, 1, queries))
        noise = generator.standard_normal((VARIANTS, seeds, queries), dtype=np.float32)
        noise *= np.abs(noise) >= HALF
        tables.append(query_part + structure.noise_sd / KEPT * volatility * noise)
    return tables


def draw_seeds(structure: Structure, generator: np.random.Generator, size: Size) -> FloatArray:
    """Draw the seed effects, shape (datasets, variants, seeds).

    Part of a seed's effect is specific to the dataset; the two parts add up to its variance on one dataset.
    """
    seeds, _, datasets = size
    scatter = structure.seed_sd * np.exp(HEADS_DIFFER * generator.standard_normal(VARIANTS) / 2)
    everywhere = generator.standard_normal((1, VARIANTS, seeds))
    own = generator.standard_normal((datasets, VARIANTS, seeds))
    return np.asarray(np.sqrt(0.5) * scatter[:, None] * (everywhere + own))


def in_scene(scene: Scene, shifts: FloatArray) -> FloatArray:
    """Scale the seed effects for a scene and select its variants."""
    factors = np.full(VARIANTS, scene.seeds)
    factors[1] *= scene.one_head
    return np.asarray(factors[:, None] * shifts)[:, : scene.variants]


def as_scores(tables: Sequence[FloatArray], shifts: FloatArray) -> dict[str, Scores]:
    """Combine the draws into the scores of each variant; the first is the baseline."""
    seeds = tuple(range(shifts.shape[2]))
    return {
        f"v{variant}": Scores(
            seeds, tuple(table[variant] + shift[variant][:, None] for table, shift in zip(tables, shifts, strict=True))
        )
        for variant in range(shifts.shape[1])
    }


def as_levels(tables: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Decompose the differences from the baseline, for all variants at once; seed shifts only move the means."""
    taken = [take_apart(table[1:] - table[:1]) for table in tables]
    means, between, noise = (np.stack(part, axis=1) for part in zip(*taken, strict=True))
    return means, between, noise


def simulate(structure: Structure, size: Size, *, experiments: int, random: Sequence[int]) -> dict[str, Any]:
    """Judge experiments in which no head differs, in every scene.

    Returns:
        For each scene the means, standard errors, degrees of freedom and corrected p-values, each of shape
        (experiments, variants - 1), and for the first scene the bootstrap's coverage.
    """
    generator = np.random.default_rng(random)
    _, queries, datasets = size
    found: dict[str, list[FloatArray]] = {name: [] for name in SCENES}
    bootstrap = []
    for number in range(experiments):
        tables, shifts = draw_queries(structure, generator, size), draw_seeds(structure, generator, size)
        means, between, noise = as_levels(tables)
        for name, scene in SCENES.items():
            shift = in_scene(scene, shifts)
            parts: list[Levels] = [
                join_levels(means[i] + shift[:, i + 1] - shift[:, 0], between[i], noise[i], [queries] * datasets)
                for i in range(scene.variants - 1)
            ]
            estimates, adjusted = weigh(parts)
            rows = [(one.mean, one.standard_error, one.df, p) for one, p in zip(estimates, adjusted, strict=True)]
            found[name].append(np.array(rows).T)
        if number % BOOTSTRAP_EVERY == 0:
            scores = as_scores(tables, in_scene(next(iter(SCENES.values())), shifts))
            pair = zip(scores["v1"].tables, scores["v0"].tables, strict=True)
            low, high = two_level_bootstrap([a - b for a, b in pair], generator, draws=300)
            bootstrap.append(low <= 0 <= high)
    return {"scenes": {name: np.stack(one, axis=1) for name, one in found.items()}, "bootstrap": bootstrap}


def null_cell(scene: Scene, found: FloatArray) -> dict[str, Any]:
    """Count false positives and interval coverage, and compute the power to find a better head.

    Args:
        scene: The scene.
        found: Means, standard errors, degrees of freedom and corrected p-values, shape (4, experiments, variants - 1).
    """
    means, errors, dfs, adjusted = found
    experiments, variants = means.shape
    called = ((adjusted < ALPHA) & (means > 0)).any(axis=1).sum()
    covered = np.abs(means) <= special.stdtrit(dfs, 0.975) * errors
    foreseen = np.vectorize(smallest_shown)(errors, dfs, comparisons=variants)
    stated = foreseen.mean(axis=0)
    cell = {
        "experiments": experiments,
        "called_better": _share(int(called), experiments),
        "coverage": _share(int(covered.sum()), covered.size),
        "power": [{"gain": gain, "share": power(found, [gain] * variants)} for gain in GAINS],
        "stated": {"mean": float(stated.mean()), "low": _quantile(foreseen, 0.1), "high": _quantile(foreseen, 0.9)},
        "stated_power": power(found, stated),
    }
    if scene.one_head != 1:
        cell["one_head_coverage"] = _share(int(covered[:, 0].sum()), experiments)
    return cell


def power(found: FloatArray, gains: Sequence[float] | FloatArray) -> float:
    """Return how often a variant that is better by its gain is called better, averaged over the variants.

    A gain only shifts the mean, so the experiments without a difference can be reused for every gain.
    """
    means, errors, dfs, _ = found
    p_values = 2 * special.stdtr(dfs, -np.abs(means) / errors)
    count = means.shape[1]
    hits = []
    for variant, gain in enumerate(gains):
        better = means[:, variant] + gain
        mine = 2 * special.stdtr(dfs[:, variant], -np.abs(better) / errors[:, variant])
        others = np.sort(np.delete(p_values, variant, axis=1), axis=1)
        # Holm's procedure goes through the p-values in ascending order and stops at the first that is too large.
        place = (others < mine[:, None]).sum(axis=1)
        passed = np.cumprod(others * (count - np.arange(count - 1)) < ALPHA, axis=1)
        before = (np.arange(count - 1) < place[:, None]) & (passed == 0)
        hits.append((mine * (count - place) < ALPHA) & ~before.any(axis=1) & (better > 0))
    return float(np.mean(hits))


def cells(structure: Structure, size: Size, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the counts of each scene of one size, from the cache if available."""
    random = (options.seed, SIZES.index(size))
    key = sha256_json([CALIBRATION_VERSION, asdict(structure), size, options.experiments, random])
    path = options.cache / f"{key[:24]}.json"
    if path.exists():
        stored: dict[str, dict[str, Any]] = read_json(path)
        return stored
    drawn = simulate(structure, size, experiments=options.experiments, random=random)
    counted = {
        name: dict(zip(("seeds", "queries", "datasets"), size, strict=True)) | null_cell(scene, drawn["scenes"][name])
        for name, scene in SCENES.items()
    }
    counted[next(iter(SCENES))]["bootstrap_coverage"] = _share(sum(drawn["bootstrap"]), len(drawn["bootstrap"]))
    write_json(path, counted)
    return counted


def real_null(folder: Path, *, seeds: int, experiments: int, random: int) -> dict[str, Any]:
    """Divide one variant's trials among as many pretended variants as possible, and judge those."""
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
    """Return the result as Markdown tables."""
    structure = result["structure"]
    lines = [
        "# Calibration of the verdicts",
        "",
        f"Each row is {result['experiments']} simulated experiments (random seed {result['seed']}) of {VARIANTS} "
        f"variants, unless the title gives a different number. Generated by `python -m benchmarks.calibration`; its "
        f"docstring describes the method. Variability of a score: {structure['source']} (in points: seed "
        f"{100 * structure['seed_sd']:.2f}, query {100 * structure['query_sd']:.2f}, noise "
        f"{100 * structure['noise_sd']:.2f}).",
        "",
        "*Any called better* should be at most 5%, and *interval coverage* 93 to 97%. *Detectable* is the average "
        "difference that the experiments say they could have detected, in brackets its 10th and 90th percentiles; "
        "*finds that* is how often a variant that is better by that difference is called better, and should be 80%.",
        "",
        _extremes(result["cells"]),
        "",
    ]
    for name, counted in result["cells"].items():
        lines += [f"## {name.capitalize()}", "", *_table([_cell_texts(cell) for cell in counted]), ""]
    for null in result["real_null"]:
        lines += [
            f"Real null: {null['trials']} trials of {null['variant']} ({null['experiment']}), divided "
            f"{null['experiments']} times into {null['pretended_variants']} pretended variants of {null['seeds']} "
            f"seeds: any called better {_percent(null['called_better'])}, interval coverage "
            f"{_percent(null['coverage'])}.",
            "",
        ]
    return "\n".join(lines)


def _extremes(counted: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Summarise the worst rates over all scenes and sizes."""
    every = [cell for one in counted.values() for cell in one]
    called = max((cell["called_better"] for cell in every), key=lambda one: float(one["share"]))
    coverage = [cell["coverage"]["share"] for cell in every]
    stated = [cell["stated_power"] for cell in every]
    outside = sum(not 0.75 <= share <= 0.85 for share in stated)
    return (
        f"Over all {len(every)} rows: any called better, at most {_interval(called)}; interval coverage, "
        f"{_percent(min(coverage))} to {_percent(max(coverage))}; detectable differences found, "
        f"{_percent(min(stated))} to {_percent(max(stated))} ({outside} rows outside 75 to 85%)."
    )


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    return markdown_table(list(rows[0]), (row.values() for row in rows))


def _cell_texts(cell: dict[str, Any]) -> dict[str, str]:
    stated = cell["stated"]
    texts = {
        "seeds": str(cell["seeds"]),
        "queries": str(cell["queries"]),
        "datasets": str(cell["datasets"]),
        "any called better [95%]": _interval(cell["called_better"]),
        "interval coverage [95%]": _interval(cell["coverage"]),
    }
    if "one_head_coverage" in cell:
        texts["coverage for that head"] = _percent(cell["one_head_coverage"]["share"])
    if "bootstrap_coverage" in cell:
        texts["plain bootstrap"] = _percent(cell["bootstrap_coverage"]["share"])
    texts |= {f"finds {100 * one['gain']:g}": _percent(one["share"]) for one in cell["power"]}
    return texts | {
        "detectable": f"{100 * stated['mean']:.2f} [{100 * stated['low']:.2f}, {100 * stated['high']:.2f}]",
        "finds that": _percent(cell["stated_power"]),
    }


def main(arguments: Sequence[str]) -> None:
    """Run the calibration and write its results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000, help="simulated experiments per size")
    parser.add_argument("--fit", type=Path, help="experiment to whose trials the variances are fitted")
    parser.add_argument(
        "--null",
        type=Path,
        action="append",
        default=[],
        help="experiment with many seeds of one variant; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    parser.add_argument("--output", type=Path, default=Path("results"), help="output folder")
    parser.add_argument("--cache", type=Path, default=Path("outputs/calibration"), help="folder for finished sizes")
    options = parser.parse_args(arguments)
    structure = fit_structure(options.fit) if options.fit else assumed_structure()
    counted = []
    for size in SIZES:
        counted.append(cells(structure, size, options))
        first = counted[-1][next(iter(SCENES))]
        print(*size, first["called_better"]["share"], first["coverage"]["share"], first["stated_power"], flush=True)
    result = {
        "experiments": options.experiments,
        "seed": options.seed,
        "structure": asdict(structure),
        "cells": {name: [one[name] for one in counted] for name in SCENES},
        "real_null": [
            real_null(folder, seeds=seeds, experiments=options.experiments, random=options.seed)
            for folder in options.null
            for seeds in (3, 5, 10)
        ],
    }
    write_json(options.output / "calibration.json", result)
    write_text(options.output / "calibration.md", markdown(result))


def _share(hits: int, total: int) -> dict[str, float]:
    """Return a share with its exact 95% interval (Clopper and Pearson, 1934)."""
    ends = stats.binomtest(hits, total).proportion_ci()
    return {"share": hits / total, "low": float(ends.low), "high": float(ends.high)}


def _quantile(values: FloatArray, share: float) -> float:
    return float(np.quantile(values, share))


def _normalised(quantiles: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in quantiles / np.sqrt(np.mean(np.square(quantiles))))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _interval(share: Mapping[str, float]) -> str:
    return f"{_percent(share['share'])} [{_percent(share['low'])}, {_percent(share['high'])}]"


if __name__ == "__main__":
    main(sys.argv[1:])
