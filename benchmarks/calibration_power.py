"""Power: what is found, what was promised to be found, and what the largest difference is worth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.calibration_draws import (
    SCENES,
    FloatArray,
    Row,
    Run,
    Scene,
    balanced,
    draw,
    percent,
    share,
    without_queries,
)
from eval.verdicts import ALPHA, Scores, fresh, judge, race, winner
from eval.verdicts.multiple import critical
from eval.verdicts.variance import differences

__all__ = ["plans", "power", "races", "winners"]


def power(run: Run) -> Iterable[Row]:
    """Find the difference that is shown in 80% of experiments, by this method and by the one before it."""
    for start, scene in (
        ("own starts", Scene()),
        ("own starts, baseline with more seeds", balanced(Scene())),
        ("shared start", Scene(sharing=6)),
    ):
        for seeds in (3, 5, 10):
            for queries in (300, 1000):
                sized = replace(scene, seeds=seeds, queries=queries)
                sized = balanced(sized) if scene.baseline_seeds else sized
                row: Row = {"heads": start, "seeds": seeds, "queries": queries}
                drawn = list(run.draws(sized))
                for scope, one in (("new queries", drawn), ("these queries", list(run.draws(without_queries(sized))))):
                    row[scope] = found_in_80_percent(
                        [_limits(scores, new_queries=scope == "new queries") for scores in one]
                    )
                row["before"] = found_in_80_percent([_limits_before(scores) for scores in drawn])
                yield row


def _limits(scores: Mapping[str, Scores], *, new_queries: bool) -> FloatArray:
    """Return each variant's difference and how large it must be to be shown, shape (2, variants)."""
    found = differences(scores, "v0")
    estimates = [one.estimate(new_queries=new_queries) for one in found.values()]
    return np.array([(e.mean, e.half_width(critical(e.correlation, len(found), ALPHA))) for e in estimates]).T


def _limits_before(scores: Mapping[str, Scores]) -> FloatArray:
    """Do what the method before this one did: pairs by seed whatever the start, Holm's first step, 8 borrowed df."""
    seeds = min(len(one.seeds) for one in scores.values())
    tables = [scores[name].tables[0][:seeds] - scores["v0"].tables[0][:seeds] for name in list(scores)[1:]]
    means = np.array([table.mean() for table in tables])
    own = np.array([table.mean(axis=1).var(ddof=1) for table in tables])
    queries, count, df = tables[0].shape[1], len(tables), seeds - 1.0
    rest = [t - t.mean(axis=0) - t.mean(axis=1, keepdims=True) + t.mean() for t in tables]
    noise = np.array([np.square(one).sum() for one in rest]) / (df * (queries - 1)) / (seeds * queries)
    between = np.array([t.mean(axis=0).var(ddof=1) for t in tables]) / queries
    query = np.maximum(0.0, between - noise)
    given = np.minimum(own, 5 * np.median(own))

    def others(place: int, lenders: NDArray[np.bool_]) -> tuple[float, float]:
        chosen = lenders & (np.arange(count) != place)
        lent = 1 / (1 / 8 + (1 + 0.25 * (chosen.sum() - 1)) / (df * chosen.sum()))
        return float(given[chosen].mean()), float(lent)

    def like(place: int, lenders: NDArray[np.bool_], tail: float) -> bool:
        mean, lent = others(place, lenders)
        return bool(own[place] <= mean * special.fdtri(df, lent, 1 - tail))

    everybody = np.ones(count, dtype=bool)
    lenders = np.array([like(place, everybody, 0.01) for place in range(count)])
    limits = []
    for place in range(count):
        variance, worth = own[place], df
        if like(place, lenders, 0.2):
            mean, lent = others(place, lenders)
            variance, worth = (df * variance + lent * mean) / (df + lent), df + lent
        size = variance / seeds + query[place]
        degrees = size / (variance / seeds / worth + query[place] / (queries - 1))
        limits.append(special.stdtrit(degrees, 1 - ALPHA / (2 * count)) * np.sqrt(size))
    return np.array([means, limits])


def found_in_80_percent(limits: Sequence[FloatArray]) -> str:
    """Return, in points, the gain by which 80% of the differences would pass their limits."""
    low, high = np.stack(limits)[:, 0].ravel(), np.stack(limits)[:, 1].ravel()
    return f"{100 * float(np.quantile(high - low, 0.8)):.2f}"


def plans(run: Run) -> Iterable[Row]:
    """Count how often a new experiment finds what the plan of an earlier one promises to show in 80%."""
    for name in (
        "heads scatter alike",
        "heads scatter differently",
        "one head scatters 5 times as much",
        "all share a start",
        "one variant",
    ):
        for seeds, more in ((3, 3), (3, 10), (5, 5), (5, 10)):
            scene = replace(SCENES[name], seeds=seeds)
            promised = np.array(
                [
                    [v.design.smallest_shown(more) for v in judge(scores, "v0").values() if v.design]
                    for scores in run.draws(scene)
                ]
            )
            later = np.stack([_limits(scores, new_queries=True) for scores in run.draws(replace(scene, seeds=more), 1)])
            found = (later[:, 0] + promised > later[:, 1]).mean(axis=0)
            yield {
                "scene": name,
                "seeds": seeds,
                "seeds planned": more,
                "promised": f"{100 * np.median(promised):.2f}",
                "found": percent(float(found[-1])),
                "found of the first head": percent(float(found[0])),
            }


def winners(run: Run) -> Iterable[Row]:
    """Say what the largest of several differences is found to be, what it is, and what the shrunk estimate says."""
    for variants in (3, 6, 20):
        for spread in (0.0, 0.01, 0.02):
            generator, found = np.random.default_rng(run.seed), []
            for _ in range(run.experiments):
                gains = tuple(spread * generator.standard_normal(variants))
                scores = draw(Scene(variants=variants, seeds=5, gains=gains, scatter=run.scatter), generator)
                best = winner(judge(scores, "v0"))
                if best is not None:
                    found.append((best.difference, gains[int(best.name[1:]) - 1], best.shrunk))
            said, true, shrunk = 100 * np.mean(found, axis=0)
            yield {
                "variants": variants,
                "true gains' SD": f"{100 * spread:g}",
                "said": f"{said:.2f}",
                "true": f"{true:.2f}",
                "shrunk": f"{shrunk:.2f}",
            }


def races(run: Run) -> Iterable[Row]:
    """Race many heads and judge the survivors on seeds that did not choose them."""
    for heads, spread in ((20, 0.01), (100, 0.005), (100, 0.01), (100, 0.02)):
        generator, trials, lost, gaps, said, true = np.random.default_rng(run.seed), 0, 0, [], [], []
        rounds = [3, 4, 6, 8, 10, 12]
        for _ in range(run.experiments):
            gains = tuple(spread * generator.standard_normal(heads))
            scene = Scene(
                variants=heads, seeds=rounds[-1] + 5, gains=gains, queries=100, fixed_queries=True, scatter=run.scatter
            )
            scores = draw(scene, generator)
            done = race(scores, rounds)
            order = sorted(scores, key=lambda name: 0.0 if name == "v0" else -gains[int(name[1:]) - 1])
            trials += sum(rounds[done.lost.get(name, len(rounds) - 1)] for name in scores)
            lost += order[0] not in done.survivors
            best = done.survivors[0]
            gaps.append(max(0.0, *gains) - (0.0 if best == "v0" else gains[int(best[1:]) - 1]))
            rest = fresh({name: scores[name] for name in {"v0", best}}, dict.fromkeys(scores, rounds[-1]))
            if best != "v0":
                said.append(judge({"v0": rest["v0"], best: rest[best]}, "v0")[best].difference)
                true.append(gains[int(best[1:]) - 1])
        yield {
            "heads": heads,
            "true gains' SD": f"{100 * spread:g}",
            "best head lost": share(lost, run.experiments),
            "trials": f"{trials / run.experiments:.0f} of {rounds[-1] * (heads + 1)}",
            "winner short of the best by": f"{100 * np.mean(gaps):.2f}",
            "its gain on new seeds": f"{100 * np.mean(said):.2f}",
            "its true gain": f"{100 * np.mean(true):.2f}",
        }
