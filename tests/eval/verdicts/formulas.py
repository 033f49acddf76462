"""The formulas of docs/method/verdicts.md once more, in plain loops: what the vectorised code must give."""

from itertools import combinations
from math import pi, sqrt
from statistics import mean, median, variance

import numpy as np
from scipy import special, stats


def covariance(x, y):
    return sum((a - mean(x)) * (b - mean(y)) for a, b in zip(x, y, strict=True)) / (len(x) - 1)


def noise_of(table, scale):
    """n: the residual mean square, at least half a flip over the scale in all cells; 0 with one seed."""
    seeds, queries = table.shape
    if seeds == 1:
        return 0.0
    grand, rest = table.mean(), 0.0
    for s in range(seeds):
        for q in range(queries):
            rest += (table[s, q] - table[s].mean() - table[:, q].mean() + grand) ** 2
    return max(rest / (seeds - 1) / (queries - 1), scale**2 / 2 / (seeds * queries + 1))


def sides(one, base):
    """The variant's tables, or its paired differences to the baseline's with their seeds."""
    common = sorted(set(one.seeds) & set(base.seeds))
    paired = one.start_group is not None and one.start_group == base.start_group and len(common) >= 3
    if paired:
        rows, theirs = [one.seeds.index(s) for s in common], [base.seeds.index(s) for s in common]
        return [t[rows] - u[theirs] for t, u in zip(one.tables, base.tables, strict=True)], tuple(common)
    return list(one.tables), None


def spread(tables, scales):
    """s^2 of the suite's mean over seeds, at least what the noise gives it, and its degrees of freedom."""
    means = [mean(table[s].mean() for table in tables) for s in range(len(tables[0]))]
    noise = sum(noise_of(t, r) / t.shape[1] for t, r in zip(tables, scales, strict=True)) / len(tables) ** 2
    return max(variance(means) if len(means) > 1 else 0.0, noise), len(means) - 1, means


def borrowed(place, spreads):
    """s~^2 with d + g degrees of freedom."""
    own, df = spreads[place][:2]
    others = [(v, d) for at, (v, d, *_) in enumerate(spreads) if at != place and d > 0]
    if not others or df == 0:
        return own, float(df)
    total = sum(d for _, d in others)
    o = sum(d * min(v, 5 * median(v for v, _ in others)) for v, d in others) / total
    g = min(1.0, o / own) ** 3 / (1 / {2: 4, 3: 4, 4: 5}.get(df + 1, 6) + 1 / total)
    return (df * own + g * o) / (df + g), df + g


def freedom(terms):
    total = sum(v for v, _ in terms)
    h = total / sum(v / d for v, d in terms if v)
    w = total**2 / sum(v**2 / d for v, d in terms if v)
    return h ** (2 / 3) * w ** (1 / 3)


def difference(scores, baseline, name):
    """D; for each scope SE^2 and its degrees of freedom; and the correlation with the other differences."""
    base = scores[baseline]
    scales = [
        max(one.tables[d].max() for one in scores.values()) - min(one.tables[d].min() for one in scores.values())
        for d in range(len(base.tables))
    ]
    tables, common = sides(scores[name], base)
    group = [
        n
        for n, one in scores.items()
        if n != baseline and one.start_group == scores[name].start_group and bool(sides(one, base)[1]) == bool(common)
    ]
    spreads = [spread(sides(scores[n], base)[0], scales) for n in group]
    place = group.index(name)
    lends = [] if common or scores[name].start_group or base.start_group else [spread(base.tables, scales)]
    own, df = borrowed(place, spreads + lends)
    seeds, shared, terms = len(tables[0]), 0.0, []
    if scores[name].start_group:
        asked = common or scores[name].seeds
        courses = [
            [found[list(have).index(seed)] for seed in asked]
            for n, (_, _, found) in zip(group, spreads, strict=True)
            if set(asked) <= set(have := sides(scores[n], base)[1] or scores[n].seeds)
        ]
        if len(courses) > 1:
            shared = min(max(0.0, mean(covariance(x, y) for x, y in combinations(courses, 2))), own)
        else:
            own, df = spreads[place][:2]
    terms.append(((own - shared) / seeds, df))
    q = n = 0.0
    parts = []
    for d, (table, scale) in enumerate(zip(tables, scales, strict=True)):
        count = table.shape[1]
        by_query = table.mean(axis=0) - (0 if common else base.tables[d].mean(axis=0))
        one = max(variance(by_query.tolist()), scale**2 / 2 / (seeds * count + 1)) / count
        parts.append((one, count - 1))
        q += one / len(tables) ** 2
        n += noise_of(table, scale) / seeds / count / len(tables) ** 2
        n += 0 if common else noise_of(base.tables[d], scale) / len(base.seeds) / count / len(tables) ** 2
    mine = mean(spreads[place][2])
    if common:
        terms.append((shared / seeds, seeds - 1))
        luck = shared / seeds
    else:
        variance_b, df_b, means_b = spread(base.tables, scales)
        terms += [(variance_b / len(base.seeds), df_b), (shared / seeds, seeds - 1)]
        mine, luck = mine - mean(means_b), variance_b / len(base.seeds)
    here = sum(v for v, _ in terms)
    q_df = sum(v for v, _ in parts) ** 2 / sum(v**2 / d for v, d in parts)
    new = [*terms, (max(0.0, q - n), q_df)]
    return mine, {False: (here, freedom(terms)), True: (sum(v for v, _ in new), freedom(new))}, luck / here


def surest(value, scopes, new_queries, factor=1.0):
    """The least z over this scope and, for new queries, the other: nothing is surer for new queries than for these.

    ``value`` is a distance from the mean that is asked about; ``factor`` divides the z of this scope only.
    """
    found = [stats.norm.isf(stats.t.sf(value / sqrt(v), df)) for v, df in (scopes[False], scopes[new_queries])]
    if not new_queries:
        return found[0] / factor if found[0] > 0 else found[0]
    return min(found[0], found[1] / factor if found[1] > 0 else found[1])


def any_of(z, rho, count):
    """P(any |z_i| >= z) of ``count`` normal values that correlate by rho (Dunnett)."""

    x = np.linspace(-10, 10, 2001)
    low, high = (-z + sqrt(rho) * x) / sqrt(1 - rho), (z + sqrt(rho) * x) / sqrt(1 - rho)
    inside = np.exp(-(x**2) / 2) / sqrt(2 * pi) * (special.ndtr(high) - special.ndtr(low)) ** count
    return 1 - float(np.trapezoid(inside, x))


def tables(generator, seeds, queries, *, seed_sd, query_sd=0.3, noise_sd=0.6, gain=0.0, start=0.0):
    """Scores (seeds, queries) of one data set."""
    return (
        gain
        + np.asarray(start)
        + generator.normal(0, seed_sd, (seeds, 1))
        + generator.normal(0, query_sd, (1, queries))
        + generator.normal(0, noise_sd, (seeds, queries))
    )
