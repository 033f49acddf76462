"""False calls: how often a verdict, a decision, an effect or an accusation is wrong."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.calibration_draws import (
    KINDS,
    SCENES,
    Row,
    Run,
    Scatter,
    Scene,
    balanced,
    percent,
    share,
    without_queries,
)
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.verdicts import ALPHA, Effects, Scores, astray_trials, decide, effects, judge, judge_datasets

__all__ = [
    "astray",
    "cells",
    "effects_over_looks",
    "equivalence",
    "factors",
    "false_calls",
    "looks",
    "one_seed",
    "real_null",
]


def false_calls(run: Run) -> Iterable[Row]:
    """Count experiments without any difference in which a variant is called better or worse."""
    for name, scene in SCENES.items():
        for seeds in (3, 5, 10):
            sized = replace(scene, seeds=seeds)
            sized = balanced(sized) if scene.baseline_seeds else sized
            row: Row = {"scene": name.strip(), "seeds": seeds}
            for scope, one in (("new queries", sized), ("these queries", without_queries(sized))):
                called, covered = 0, np.zeros(scene.variants)
                for scores in run.draws(one):
                    verdicts = judge(scores, "v0").values()
                    scopes = [v.new_queries if scope == "new queries" else v.these_queries for v in verdicts]
                    called += any(part.word in ("better", "worse") for part in scopes)
                    covered += [part.p_value >= ALPHA for part in scopes]
                row |= {
                    f"false calls, {scope}": share(called, run.experiments),
                    f"coverage of the worst head, {scope}": share(int(covered.min()), run.experiments),
                }
            yield row


def one_seed(run: Run) -> Iterable[Row]:
    """Count false calls about two fixed models."""
    for kind in KINDS:
        for queries in (50, 300):
            scene = Scene(kind=kind, variants=1, seeds=1, queries=queries, scatter=Scatter(seed=0.0))
            words = [judge(scores, "v0")["v1"].new_queries.word for scores in run.draws(scene)]
            yield {
                "scores": kind,
                "queries": queries,
                "false calls": share(sum(w != "no difference shown" for w in words), len(words)),
            }


def equivalence(run: Run) -> Iterable[Row]:
    """Count experiments in which a variant that differs by the resolution is called equivalent."""
    resolution = 0.02
    for name in (
        "heads scatter alike",
        "heads scatter differently",
        "baseline scatters 3 times as much",
        "one head scatters 5 times as much",
        "all share a start",
        "one variant",
    ):
        for seeds in (3, 5, 10):
            scene = replace(SCENES[name], seeds=seeds)
            scene = replace(scene, gains=(resolution,) * scene.variants)
            row: Row = {"scene": name, "seeds": seeds}
            for scope, one in (("new queries", scene), ("these queries", without_queries(scene))):
                wrong = 0
                for scores in run.draws(one):
                    verdicts = judge(scores, "v0", resolution=resolution).values()
                    scopes = [v.new_queries if scope == "new queries" else v.these_queries for v in verdicts]
                    wrong += any(part.word in ("equivalent", "worse") for part in scopes)
                row[f"wrong, {scope}"] = share(wrong, run.experiments)
            yield row


def looks(run: Run) -> Iterable[Row]:
    """Count wrong decisions over all looks, decided variants, and the trials that they took."""
    by_hand, resolution = [3, 5, 8, 12, 20], 0.02
    for plan, counts, most in (
        ("every seed to 10", range(3, 11), 10),
        ("every seed to 20", range(3, 21), 20),
        ("by hand", by_hand, None),
    ):
        for name in (
            "heads scatter alike",
            "heads scatter differently",
            "baseline scatters 3 times as much",
            "one head scatters 5 times as much",
            "all share a start",
            "one variant",
        ):
            scene = replace(SCENES[name], seeds=max(counts), queries=200)
            for truth, gain in (("no difference", 0.0), ("all at the resolution", resolution)):
                gained = replace(scene, gains=(gain,) * scene.variants)
                wrong = {"new queries": 0, "these queries": 0}
                decided = trials = 0
                for scope, one in (("new queries", gained), ("these queries", without_queries(gained))):
                    false = ("better", "worse") if gain == 0 else ("equivalent", "worse")
                    for scores in run.draws(one):
                        found = decide(
                            scores,
                            "v0",
                            list(counts),
                            most=most,
                            resolution=resolution,
                            new_queries=scope == "new queries",
                        ).values()
                        wrong[scope] += any(d.word in false for d in found)
                        if scope == "these queries":
                            decided += sum(d.decided for d in found)
                            trials += sum(d.seeds for d in found) + max(d.baseline_seeds for d in found)
                yield {
                    "looks": plan,
                    "scene": name,
                    "truth": truth,
                    **{f"wrong, {scope}": share(count, run.experiments) for scope, count in wrong.items()},
                    "decided": percent(decided / run.experiments / scene.variants),
                    "trials": f"{trials / run.experiments:.0f} of {(scene.variants + 1) * max(counts)}",
                }


def cells(run: Run) -> Iterable[Row]:
    """Count experiments without any difference in which a cell of some data set is coloured."""
    for seeds in (3, 5):
        scene = Scene(seeds=seeds, datasets=13, queries=50)
        names, coloured, uncorrected = [f"d{place}" for place in range(13)], 0, 0
        for scores in run.draws(scene):
            every = [v.new_queries for one in judge_datasets(scores, "v0", names).values() for v in one.values()]
            coloured += any(one.word in ("better", "worse") for one in every)
            uncorrected += any(len(names) * one.p_value < ALPHA for one in every)
        yield {"data sets": 13, "seeds": seeds, "any cell coloured": share(coloured, run.experiments)}


def factors(run: Run) -> Iterable[Row]:
    """Count false effects in grids without any, and the width of a main effect's interval."""
    for size, seeds in ((2, 3), (2, 5), (4, 3), (4, 8)):
        names = [f"f{place}" for place in range(size)]
        for start, scene in (
            ("own starts", Scene()),
            ("shared start", Scene(sharing=2**size)),
            ("one head scatters 5 times as much", Scene(one_scatter=5.0)),
        ):
            scene = replace(scene, variants=2**size - 1, seeds=seeds, sharing=min(scene.sharing, 2**size - 1))
            levels = {
                f"v{cell}": {name: cell >> place & 1 for place, name in enumerate(names)} for cell in range(2**size)
            }
            row: Row = {"grid": f"2^{size}", "seeds": seeds, "heads": start}
            for scope, one in (("new queries", scene), ("these queries", without_queries(scene))):
                wrong, widths = 0, []
                for scores in run.draws(one):
                    found = effects(scores, levels)
                    every = [
                        e.new_queries if scope == "new queries" else e.these_queries
                        for e in (*found.main, *found.interactions)
                    ]
                    wrong += any(part.word != "no difference shown" for part in every)
                    widths.append((every[0].high or 0.0) - every[0].difference)
                row |= {
                    f"false effects, {scope}": share(wrong, run.experiments),
                    f"interval, {scope}": f"± {100 * np.median(widths):.2f}",
                }
            yield row


def effects_over_looks(run: Run) -> Iterable[Row]:
    """Count false effects in a grid without any, read at every look by hand, or once after the rounds of a question."""
    by_hand, by_rounds, resolution = (3, 5, 8, 12, 20), range(3, 13), 0.02
    levels = {f"v{cell}": {"f0": cell & 1, "f1": cell >> 1} for cell in range(4)}
    for plan in ("by hand", "rounds of a question"):
        for start, scene in (
            ("own starts", Scene()),
            ("shared start", Scene(sharing=3)),
            ("one head scatters 5 times as much", Scene(one_scatter=5.0)),
        ):
            counts = by_hand if plan == "by hand" else by_rounds
            scene = replace(scene, variants=3, seeds=max(counts))
            row: Row = {"looks": plan, "grid": "2^2", "heads": start}
            for scope, one in (("new queries", scene), ("these queries", without_queries(scene))):
                new, wrong, uncorrected = scope == "new queries", 0, 0
                for scores in run.draws(one):
                    read = (
                        by_hand if plan == "by hand" else [_last_round(scores, by_rounds, resolution, new_queries=new)]
                    )
                    seen = [{name: found.rows(0, count) for name, found in scores.items()} for count in read]
                    first = _shown(effects(seen[0], levels), new_queries=new)
                    wrong += first or any(
                        _shown(effects(each, levels, read_before=True), new_queries=new) for each in seen[1:]
                    )
                    uncorrected += first or any(_shown(effects(each, levels), new_queries=new) for each in seen[1:])
                row |= {
                    f"false effects, {scope}": share(wrong, run.experiments),
                    f"uncorrected, {scope}": share(uncorrected, run.experiments),
                }
            yield row


def _shown(found: Effects, *, new_queries: bool) -> bool:
    """Return whether any effect is shown."""
    scopes = [e.new_queries if new_queries else e.these_queries for e in (*found.main, *found.interactions)]
    return any(scope.word != "no difference shown" for scope in scopes)


def _last_round(scores: Mapping[str, Scores], counts: Sequence[int], resolution: float, *, new_queries: bool) -> int:
    """Return with how many seeds every variant is decided, or the most."""
    decisions = decide(
        scores, "v0", list(counts), most=counts[-1], resolution=resolution, new_queries=new_queries
    ).values()
    return max(counts[one.look] for one in decisions)


def astray(run: Run) -> Iterable[Row]:
    """Count trials that are wrongly called astray, and whether one that is 12 points low is found."""
    for name in (
        "heads scatter alike",
        "heads scatter differently",
        "one head scatters 5 times as much",
        "all share a start",
    ):
        for seeds in (3, 5, 10):
            accused = found = 0
            for scores in run.draws(replace(SCENES[name], seeds=seeds)):
                accused += bool(astray_trials(scores))
                table = scores["v2"].tables[0].copy()
                table[1] -= 0.12
                low = scores | {"v2": replace(scores["v2"], tables=(table,))}
                found += any((one.variant, one.seed) == ("v2", 1) for one in astray_trials(low))
            yield {
                "scene": name,
                "seeds": seeds,
                "any trial named": share(accused, run.experiments),
                "12 points low named": share(found, run.experiments),
            }


def real_null(folder: Path, run: Run) -> Iterable[Row]:
    """Deal one variant's trials out to as many pretended variants as they suffice for, and judge those."""
    board = build_leaderboard(load_experiment(folder))
    label = max(board.scores, key=lambda name: len(board.scores[name].seeds))
    whole = board.scores[label]
    for seeds in (3, 5, 10):
        pretended = len(whole.seeds) // seeds
        generator, called, here = np.random.default_rng(run.seed), 0, 0
        for _ in range(run.experiments):
            order = generator.permutation(len(whole.seeds))[: pretended * seeds].reshape(pretended, seeds)
            hands = {
                f"v{i}": Scores(tuple(range(seeds)), tuple(t[hand] for t in whole.tables))
                for i, hand in enumerate(order)
            }
            verdicts = judge(hands, "v0").values()
            called += any(v.new_queries.word != "no difference shown" for v in verdicts)
            here += any(v.these_queries.word != "no difference shown" for v in verdicts)
        yield {
            "trials": f"{len(whole.seeds)} of {label} ({board.experiment.name})",
            "variants": pretended,
            "seeds": seeds,
            "false calls, new queries": share(called, run.experiments),
            "false calls, these queries": share(here, run.experiments),
        }
