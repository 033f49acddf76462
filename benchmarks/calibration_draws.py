"""Experiments whose truth is known, for the calibration of the verdicts.

A score of the normal kind is ``gain[v] + seed[v, s] + query[v, q] + noise[v, s, q]``. A query has a volatility, because
most queries hardly move between heads and a few move a lot, and half of the noise is zero, because ranks often do not
change at all. Scores of the latent kinds come from ranks: each relevant document has a latent margin, the sum of the
query's, the head's, the seed's and the noise's, and its rank is 1 + floor(exp(-margin)). So they are bounded, mostly
zeros and ones, and a seed acts on ranks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.verdicts import Scores, baseline_seeds

__all__ = [
    "KINDS",
    "SCENES",
    "Row",
    "Run",
    "Scatter",
    "Scene",
    "balanced",
    "draw",
    "percent",
    "share",
    "without_queries",
]

FloatArray = NDArray[np.float64]
Row = dict[str, Any]
"""A line of a table: texts, and shares as {"share", "low", "high"}."""

HALF = float(stats.norm.ppf(0.75))
"""Half of all normal draws lie within this; they become zeros."""

KEPT = float(np.sqrt(0.5 + 2 * HALF * stats.norm.pdf(HALF)))
"""Standard deviation of what is left."""

VOLATILITY = np.exp(0.6 * stats.norm.ppf((np.arange(40) + 0.5) / 40))
VOLATILITY /= np.sqrt(np.mean(VOLATILITY**2))


@dataclass(frozen=True)
class Scatter:
    """Standard deviations: between seeds, of what is peculiar to a head and a query, and of the rest."""

    seed: float = 0.0091
    query: float = 0.0468
    noise: float = 0.1249


@dataclass(frozen=True)
class Scene:
    """An experiment of known truth.

    Attributes:
        variants: Number of variants, the baseline not counted.
        seeds: Number of seeds.
        baseline_seeds: The baseline's; None for as many.
        queries: Number of queries of each data set.
        datasets: Number of data sets.
        baseline_scatter: Factor on the baseline's scatter over seeds.
        one_scatter: Factor on the first variant's.
        lognormal: Standard deviation of the logarithm of every head's factor, drawn for each experiment.
        scatter: The scatter of all; None for the quickstart's.
        sharing: Number of variants that share the baseline's start.
        correlation: Share of a head's variance over seeds that is its start's.
        kind: A name of ``KINDS``.
        gains: The true gain of each variant.
        fixed_queries: Whether heads differ on no query, so that nothing is to be found on these queries either.
    """

    variants: int = 6
    seeds: int = 3
    baseline_seeds: int | None = None
    queries: int = 300
    datasets: int = 1
    baseline_scatter: float = 1.0
    one_scatter: float = 1.0
    lognormal: float = 0.0
    scatter: Scatter | None = None
    sharing: int = 0
    correlation: float = 0.9
    kind: str = "normal"
    gains: tuple[float, ...] = ()
    fixed_queries: bool = False


@dataclass(frozen=True)
class _Latent:
    """A kind of scores that come from ranks: the margins' mean and standard deviations, and the measure."""

    mean: float
    spread: float
    seed: float
    query: float
    noise: float
    documents: int
    measure: Callable[[FloatArray], FloatArray]


def _ndcg(ranks: FloatArray) -> FloatArray:
    gains = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0).sum(axis=-1)
    return np.asarray(np.minimum(1.0, gains / np.sum(1 / np.log2(2 + np.arange(ranks.shape[-1])))))


def _recall(ranks: FloatArray) -> FloatArray:
    return np.asarray((ranks <= 100).mean(axis=-1))


KINDS: dict[str, _Latent | None] = {
    "normal": None,
    # Seed .9, query 4.7, noise 12.4 points; 19% zeros and 49% ones.
    "one relevant document": _Latent(0.1, 2.5, 0.072, 0.26, 0.58, 1, _ndcg),
    "four relevant documents": _Latent(-1.5, 2.0, 0.045, 0.22, 0.9, 4, _ndcg),
    # 1% zeros.
    "R@100": _Latent(1.5, 2.5, 0.09, 0.40, 0.9, 1, _recall),
}


def draw(scene: Scene, generator: np.random.Generator) -> dict[str, Scores]:
    """Draw an experiment; ``v0`` is the baseline."""
    heads, base = scene.variants + 1, scene.baseline_seeds or scene.seeds
    shifts = _shifts(scene, generator, max(scene.seeds, base))
    tables = [_table(scene, generator, shifts) for _ in range(scene.datasets)]
    counts = [base, *([scene.seeds] * scene.variants)]
    return {
        name: Scores(
            tuple(range(counts[place])),
            tuple(table[place, : counts[place]] for table in tables),
            "shared" if place <= scene.sharing and scene.sharing else None,
        )
        for place, name in enumerate(named(heads))
    }


def named(heads: int) -> list[str]:
    """Return the names of so many heads."""
    return [f"v{place}" for place in range(heads)]


def _shifts(scene: Scene, generator: np.random.Generator, seeds: int) -> FloatArray:
    """Draw what seeds do, in units of the seeds' standard deviation, shape (heads, seeds)."""
    heads = scene.variants + 1
    factors = np.exp(scene.lognormal * generator.standard_normal(heads))
    factors[0] *= scene.baseline_scatter
    factors[1] *= scene.one_scatter
    own = generator.standard_normal((heads, seeds))
    shifts = factors[:, None] * own
    if scene.sharing:
        together = slice(0, scene.sharing + 1)
        start = np.sqrt(scene.correlation) * generator.standard_normal(seeds)
        shifts[together] = start + np.sqrt(1 - scene.correlation) * shifts[together]
    return np.asarray(shifts)


def _table(scene: Scene, generator: np.random.Generator, shifts: FloatArray) -> FloatArray:
    """Draw one data set's scores, shape (heads, seeds, queries)."""
    latent = KINDS[scene.kind]
    (heads, seeds), queries = shifts.shape, scene.queries
    gains = np.array((0.0, *(scene.gains or [0.0] * scene.variants)))[:, None, None]
    peculiar = 0.0 if scene.fixed_queries else 1.0
    if latent is None:
        scatter = scene.scatter or Scatter()
        volatility = generator.choice(VOLATILITY, size=queries)
        query = peculiar * scatter.query * generator.standard_normal((heads, 1, queries))
        noise = generator.standard_normal((heads, seeds, queries))
        noise *= np.abs(noise) >= HALF
        moved = volatility * (query + scatter.noise / KEPT * noise)
        # A seed's effect is in part peculiar to the data set.
        own = generator.standard_normal(shifts.shape) * np.abs(shifts).mean() if scene.datasets > 1 else 0.0
        return np.asarray(gains + scatter.seed * (shifts + 0.5 * own)[:, :, None] + moved)
    if scene.scatter is not None and scene.scatter.seed == 0:
        shifts = np.zeros_like(shifts)  # Two trials that differ by their seeds' luck do differ.
    shape = (heads, seeds, queries, latent.documents)
    margins = latent.mean + latent.spread * generator.standard_normal((1, 1, *shape[2:]))
    margins = margins + peculiar * latent.query * generator.standard_normal((heads, 1, queries, 1))
    margins = margins + latent.seed * shifts[:, :, None, None] + latent.noise * generator.standard_normal(shape)
    return np.asarray(latent.measure(1 + np.floor(np.exp(np.minimum(-margins, 12.0)))) + gains)


def without_queries(scene: Scene) -> Scene:
    """Return the scene in which heads differ on no query."""
    return replace(scene, fixed_queries=True)


def balanced(scene: Scene) -> Scene:
    """Give the baseline the seeds that suit it."""
    return replace(scene, baseline_seeds=baseline_seeds(scene.seeds, scene.variants))


SCENES: dict[str, Scene] = {
    "heads scatter alike": Scene(),
    "the same, baseline with more seeds": balanced(Scene()),
    "heads scatter differently": Scene(lognormal=0.35),
    "baseline scatters 3 times as much": Scene(baseline_scatter=3.0),
    "baseline scatters 5 times as much": Scene(baseline_scatter=5.0),
    "one head scatters 5 times as much": Scene(one_scatter=5.0),
    "the same, baseline with more seeds ": balanced(Scene(one_scatter=5.0)),
    "seeds do not scatter": Scene(scatter=Scatter(seed=0.0)),
    "one variant": Scene(variants=1),
    "one variant, it scatters 5 times as much": Scene(variants=1, one_scatter=5.0),
    "two variants, one scatters 5 times as much": Scene(variants=2, one_scatter=5.0),
    "20 variants, baseline scatters 5 times as much": Scene(variants=20, baseline_scatter=5.0),
    "half share the baseline's start": Scene(sharing=3),
    "all share a start": Scene(sharing=6),
    "all share a start, baseline scatters 5 times as much": Scene(sharing=6, baseline_scatter=5.0),
    "all share a start, one head scatters 5 times as much": Scene(sharing=6, one_scatter=5.0),
    "one variant, shared start": Scene(variants=1, sharing=1),
    "one relevant document": Scene(kind="one relevant document"),
    "one relevant document, 50 queries, one variant": Scene(kind="one relevant document", variants=1, queries=50),
    "four relevant documents": Scene(kind="four relevant documents"),
    "R@100": Scene(kind="R@100"),
    "R@100, 50 queries, one variant": Scene(kind="R@100", variants=1, queries=50),
    "13 data sets of 50 queries": Scene(datasets=13, queries=50),
}


@dataclass(frozen=True)
class Run:
    """How many experiments a line simulates, the seed, and the scatter."""

    experiments: int
    seed: int
    scatter: Scatter

    def draws(self, scene: Scene, *salt: int) -> Iterable[dict[str, Scores]]:
        """Draw the experiments of a scene; every scene of a run starts from the same seed."""
        generator = np.random.default_rng((self.seed, *salt))
        scene = replace(scene, scatter=scene.scatter or self.scatter)
        return (draw(scene, generator) for _ in range(self.experiments))


def share(hits: int, total: int) -> dict[str, float]:
    """Return a share with its exact 95% interval (Clopper and Pearson, 1934)."""
    ends = stats.binomtest(hits, total).proportion_ci()
    return {"share": hits / total, "low": round(float(ends.low), 5), "high": round(float(ends.high), 5)}


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:.1f}%"
