"""Factors: what each option of a grid of variants does, estimated from all its trials."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from eval.verdicts.difference import Estimate, degrees_of_freedom
from eval.verdicts.judge import MINIMUM_SEEDS, Scope, words_of
from eval.verdicts.looks import BY_HAND
from eval.verdicts.multiple import adjust, critical
from eval.verdicts.power import ALPHA
from eval.verdicts.scores import FloatArray, Scores
from eval.verdicts.variance import UNLIKE, Series, lent, query_variance, scales_of, summarise
from projheads.errors import ProjheadsError

__all__ = ["Effect", "Effects", "effects"]

_Key = tuple[tuple[str, ...], tuple[Hashable, ...]]
"""One factor and its level, or two."""


@dataclass(frozen=True)
class Effect:
    """A main effect or an interaction.

    Attributes:
        factors: One factor, or two for an interaction.
        levels: The level of each that is looked at.
        against: The level of each that it is compared with, the first one.
        these_queries: For a main effect, the score at the level minus that at the other, the mean over the levels of
            the other factors; for an interaction, by how much the first factor's effect differs between the second's
            two levels. The word is ``better`` or ``worse`` where it is not 0.
        new_queries: The same for new queries.
        simple: For a main effect, the same effect at each level of each other factor, as estimated: (other factor,
            level, effect). Empty where interactions could not be estimated.
        misleading: For a main effect, the other factors at whose levels its sign changes, shown by an interaction; it
            then says little.
    """

    factors: tuple[str, ...]
    levels: tuple[Hashable, ...]
    against: tuple[Hashable, ...]
    these_queries: Scope
    new_queries: Scope
    simple: tuple[tuple[str, Hashable, float], ...] = ()
    misleading: tuple[str, ...] = ()


@dataclass(frozen=True)
class Effects:
    """What the factors of a grid do.

    Attributes:
        main: The main effects, factor by factor.
        interactions: The two-way interactions.
        assumed_absent: Pairs of factors whose interaction the grid cannot show, for it lacks variants; main effects
            hold if there is none.
        trials: Number of trials that they are estimated from.
    """

    main: tuple[Effect, ...]
    interactions: tuple[Effect, ...]
    assumed_absent: tuple[tuple[str, str], ...]
    trials: int


@dataclass(frozen=True)
class _Model:
    """Columns of the linear model of cell means, with sum-to-zero codes, and the vectors that read effects from it."""

    factors: Mapping[str, tuple[Hashable, ...]]
    pairs: tuple[tuple[str, str], ...]

    def row(self, cell: Mapping[str, Hashable]) -> FloatArray:
        """Return the model's row of one cell."""
        codes = {name: self.code(name, cell[name]) for name in self.factors}
        return np.concatenate([[1.0], *codes.values(), *(np.outer(codes[a], codes[b]).ravel() for a, b in self.pairs)])

    def code(self, name: str, level: Hashable) -> FloatArray:
        """Return the codes of one level: an indicator for each level but the last, which is minus all of them."""
        levels = self.factors[name]
        place = levels.index(level)
        return np.eye(len(levels) - 1)[place] if place < len(levels) - 1 else -np.ones(len(levels) - 1)

    def mean(self, fixed: Mapping[str, Hashable]) -> FloatArray:
        """Return the vector that reads the mean over all cells at these levels."""
        rest = {name: np.zeros(len(levels) - 1) for name, levels in self.factors.items()}
        codes = rest | {name: self.code(name, level) for name, level in fixed.items()}
        return np.concatenate([[1.0], *codes.values(), *(np.outer(codes[a], codes[b]).ravel() for a, b in self.pairs)])


def effects(
    scores: Mapping[str, Scores], levels: Mapping[str, Mapping[str, Hashable]], *, read_before: bool = False
) -> Effects:
    """Estimate main effects and two-way interactions of a grid of variants, complete or not.

    The variants' means are fitted by least squares with main effects and all two-way interactions that the grid can
    show. Each effect is a contrast of the variants, and uses every trial.

    Args:
        scores: The variants' scores, all on the same data sets and queries.
        levels: For each variant of the grid the level of each factor; a factor's first level in this order is the one
            that the others are compared with.
        read_before: Whether the effects were read before, and seeds were then added by hand: they are judged more
            strictly, by the factor ``looks.BY_HAND``.

    Raises:
        ProjheadsError: If a variant lacks a factor, has no scores or fewer than three seeds, or if the grid cannot
            show a factor's effect.
    """
    factors = _checked(scores, levels)
    grid = {name: scores[name] for name in levels}
    pairs = list(combinations(factors, 2))
    absent: list[tuple[str, str]] = []
    while True:
        model = _Model(factors, tuple(pairs))
        design = np.stack([model.row(levels[name]) for name in levels])
        missing = [pair for pair in pairs if not _readable(design, _interaction(model, pair))]
        if not missing:
            break
        absent += missing
        pairs = [pair for pair in pairs if pair not in missing]
    vectors: dict[_Key, FloatArray] = {
        ((name,), (level,)): v for name in factors for level, v in _main(model, name).items()
    }
    lacking = [names[0] for (names, _), v in vectors.items() if not _readable(design, [v])]
    if lacking:
        raise ProjheadsError(f"the grid cannot show the effect of {lacking[0]}; add variants that differ in it only")
    vectors |= {(pair, where): v for pair in pairs for where, v in _interactions(model, pair).items()}
    inverse, scales, groups = np.linalg.pinv(design), scales_of(grid), _groups(grid)
    series = {name: summarise(one.seeds, one.tables, scales) for name, one in grid.items()}
    strictness = BY_HAND if read_before else 1.0
    scopes = [
        [_scope(one, len(vectors), strictness) for one in _contrast(series, groups, vector @ inverse)]
        for vector in vectors.values()
    ]
    fitted = inverse @ np.array([one.means().mean() for one in grid.values()])
    shown: set[tuple[str, Hashable, str]] = set()  # factors, their levels, and the factor that the effect depends on
    for (pair, where), (here, _) in zip(vectors, scopes, strict=True):
        if len(pair) == 2 and here.word in ("better", "worse"):
            shown |= {(pair[0], where[0], pair[1]), (pair[1], where[1], pair[0])}
    made = [_effect(model, key, pair, fitted, shown) for key, pair in zip(vectors, scopes, strict=True)]
    return Effects(
        main=tuple(one for one in made if len(one.factors) == 1),
        interactions=tuple(one for one in made if len(one.factors) == 2),
        assumed_absent=tuple(absent),
        trials=sum(len(one.seeds) for one in grid.values()),
    )


def _checked(
    scores: Mapping[str, Scores], levels: Mapping[str, Mapping[str, Hashable]]
) -> dict[str, tuple[Hashable, ...]]:
    """Return each factor's levels in the order of their first use."""
    first = next(iter(levels.values()), {})
    for name, cell in levels.items():
        if cell.keys() != first.keys():
            raise ProjheadsError(f"{name}: has the factors {', '.join(cell)}, others {', '.join(first)}; name the same")
        if name not in scores or len(scores[name].seeds) < MINIMUM_SEEDS:
            raise ProjheadsError(f"{name}: has fewer than {MINIMUM_SEEDS} seeds, so its factors cannot be judged")
    factors = {factor: tuple(dict.fromkeys(cell[factor] for cell in levels.values())) for factor in first}
    factors = {factor: found for factor, found in factors.items() if len(found) > 1}
    if not factors:
        raise ProjheadsError("no factor has two levels, so there is no effect to estimate")
    return factors


def _main(model: _Model, name: str) -> dict[Hashable, FloatArray]:
    first, *rest = model.factors[name]
    return {level: model.mean({name: level}) - model.mean({name: first}) for level in rest}


def _interactions(model: _Model, pair: tuple[str, str]) -> dict[tuple[Hashable, Hashable], FloatArray]:
    (one, other), found = pair, {}
    first, second = model.factors[one][0], model.factors[other][0]
    for a in model.factors[one][1:]:
        for b in model.factors[other][1:]:
            at_b = model.mean({one: a, other: b}) - model.mean({one: first, other: b})
            at_first = model.mean({one: a, other: second}) - model.mean({one: first, other: second})
            found[a, b] = at_b - at_first
    return found


def _interaction(model: _Model, pair: tuple[str, str]) -> list[FloatArray]:
    return list(_interactions(model, pair).values())


def _readable(design: FloatArray, vectors: Sequence[FloatArray]) -> bool:
    """Return whether the variants determine what these vectors read: whether they lie in the rows' space."""
    onto = np.linalg.pinv(design) @ design
    return all(np.allclose(vector @ onto, vector, atol=1e-8) for vector in vectors)


def _contrast(series: Mapping[str, Series], groups: Sequence[Sequence[str]], weights: FloatArray) -> list[Estimate]:
    """Return a contrast of the variants' means, on these queries and on new ones.

    Args:
        series: The variants.
        groups: The variants that share a start; each of the others is its own group.
        weights: The weight of each variant.
    """
    by_name = dict(zip(series, weights.tolist(), strict=True))
    alone = [
        (by_name[name] ** 2 * series[name].variance / len(series[name].seeds), series[name].df)
        for (name, *rest) in groups
        if not rest
    ]
    terms = [_independent(alone)] if alone else []
    terms += [
        _of_one_start([series[n] for n in group], [by_name[n] for n in group]) for group in groups if len(group) > 1
    ]
    every = list(series.values())
    by_query = [
        np.tensordot(weights, np.stack([one.by_query[d] for one in every]), 1) for d in range(len(every[0].noise))
    ]
    cells = np.sum([w**2 * np.array(one.noise) / len(one.seeds) for w, one in zip(weights, every, strict=True)], axis=0)
    between, noise, query_df = query_variance(by_query, cells, every[0].scales, min(len(one.seeds) for one in every))
    # The weights add up to 0; without the shift, equal means would give a rounding error, and that a verdict.
    shift = every[0].means.mean()
    mean = float(sum(w * (one.means.mean() - shift) for w, one in zip(weights, every, strict=True)))
    found: list[Estimate] = []
    for part in ([], [(max(0.0, between - noise), query_df)]):
        size, narrower = sum(one for one, _ in terms + part), found[0] if found else None
        df = float(degrees_of_freedom(terms + part)) if size else 1.0
        found.append(Estimate(mean, float(np.sqrt(size)), df, narrower=narrower))
    return found


def _independent(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Add up variances of independent variants, with Satterthwaite's degrees of freedom."""
    total = sum(size for size, _ in parts)
    return total, total**2 / sum(size**2 / df for size, df in parts) if total else 1.0


def _of_one_start(group: Sequence[Series], weights: Sequence[float]) -> tuple[float, float]:
    """Return the variance of a contrast within a group of one start, and its degrees of freedom.

    The variance over seeds of the contrast itself holds however seeds and factors interact, but has few degrees of
    freedom. It borrows from what the variants' scatter about their common course would give.
    """
    seeds = [seed for seed in group[0].seeds if all(seed in one.seeds for one in group)]
    table = np.stack([one.means[[one.seeds.index(seed) for seed in seeds]] for one in group])
    squares, count, df = np.square(weights), len(group), len(seeds) - 1
    own = max(float((weights @ table).var(ddof=1)), float(squares @ [one.seed_noise for one in group]))
    course = table.mean(axis=0)
    scatter = (table - course).var(axis=1, ddof=1) * count / (count - 1)
    common = float(np.sum(weights)) ** 2 * float(course.var(ddof=1))
    model, model_df = _independent([(common, df), *((float(s * v), df) for s, v in zip(squares, scatter, strict=True))])
    g = min(1.0, model / own) ** UNLIKE * lent(len(seeds), model_df) if own else 0.0
    return (df * own + g * model) / (df + g) / len(seeds), df + g


def _groups(grid: Mapping[str, Scores]) -> list[list[str]]:
    """Return the variants by the start that they share, if they have enough seeds in common; others one by one."""
    found: list[list[str]] = []
    for start in dict.fromkeys(one.start_group for one in grid.values()):
        names = [name for name, one in grid.items() if one.start_group == start]
        common = set.intersection(*(set(grid[name].seeds) for name in names))
        found += [[name] for name in names] if start is None or len(common) < MINIMUM_SEEDS else [names]
    return found


def _scope(one: Estimate, count: int, strictness: float) -> Scope:
    adjusted = adjust(one.p_value(strictness), 0.0, count)
    half = one.half_width(critical(0.0, count, ALPHA), strictness)
    return Scope(
        difference=one.mean,
        low=one.mean - half,
        high=one.mean + half,
        standard_error=one.standard_error,
        df=one.df,
        p_value=one.p_value(),
        adjusted_p=adjusted,
        equivalent_p=None,
        word=words_of(one.mean, adjusted, None),
    )


def _effect(
    model: _Model, key: _Key, scopes: Sequence[Scope], fitted: FloatArray, shown: Collection[tuple[str, Hashable, str]]
) -> Effect:
    """Put an effect together with what it is at each level of the other factors."""
    factors, levels = key
    against = tuple(model.factors[name][0] for name in factors)
    simple, misleading = [], []
    for pair in model.pairs if len(factors) == 1 else ():
        if factors[0] in pair:
            other = pair[1] if pair[0] == factors[0] else pair[0]
            found = [
                float(
                    (model.mean({factors[0]: levels[0], other: at}) - model.mean({factors[0]: against[0], other: at}))
                    @ fitted
                )
                for at in model.factors[other]
            ]
            simple += [(other, at, value) for at, value in zip(model.factors[other], found, strict=True)]
            if (factors[0], levels[0], other) in shown and min(found) < 0 < max(found):
                misleading.append(other)
    return Effect(factors, levels, against, scopes[0], scopes[1], tuple(simple), tuple(misleading))
