from itertools import product

import numpy as np
import pytest
from scipy import special

from eval.verdicts import Scores, effects
from projheads.errors import ProjheadsError
from tests.eval.verdicts.made import experiment

LEVELS = {"depth": (2, 3), "activation": ("identity", "gelu"), "residual": (False, True)}


def grid(random, gain, levels=LEVELS, **changed):
    cells = {str(cell): dict(zip(levels, cell, strict=True)) for cell in product(*levels.values())}
    means = {name: gain(**cell) for name, cell in cells.items()}
    return experiment(random, means, **({"seeds": 3, "seed_sd": 0.1, "noise_sd": 0.3} | changed)), cells


def test_effects_of_a_full_grid_are_differences_of_means_over_all_trials():
    scores, cells = grid(0, lambda depth, activation, residual: depth + 2.0 * (activation == "gelu") * residual)
    means = {name: float(one.means().mean()) for name, one in scores.items()}

    def mean(**fixed):
        return np.mean([means[n] for n, cell in cells.items() if all(cell[k] == v for k, v in fixed.items())])

    found = effects(scores, cells)
    assert found.trials == 24
    depth, activation, residual = found.main
    assert depth.these_queries.difference == pytest.approx(mean(depth=3) - mean(depth=2))
    assert (depth.levels, depth.against, depth.these_queries.word) == ((3,), (2,), "better")
    assert residual.these_queries.difference == pytest.approx(mean(residual=True) - mean(residual=False))
    both = next(one for one in found.interactions if one.factors == ("activation", "residual"))
    gelu = mean(residual=True, activation="gelu") - mean(residual=False, activation="gelu")
    identity = mean(residual=True, activation="identity") - mean(residual=False, activation="identity")
    assert both.these_queries.difference == pytest.approx(gelu - identity)
    assert both.new_queries.word == "better"
    assert ("residual", True, pytest.approx(2.0, abs=0.3)) in activation.simple
    assert activation.misleading == ()


def test_an_interaction_that_turns_an_effect_round_makes_it_misleading():
    scores, cells = grid(1, lambda depth, activation, residual: (1.0 if residual else -1.0) * (activation == "gelu"))
    activation = next(one for one in effects(scores, cells).main if one.factors == ("activation",))
    assert abs(activation.these_queries.difference) < 0.3
    assert activation.misleading == ("residual",)


def test_an_interaction_of_one_level_makes_no_other_level_misleading():
    gains = {"linear": (0.0, 0.0), "ffn": (-0.3, -0.1), "glu": (-2.0, 2.0)}
    cells = {f"{head}-{start}": {"head": head, "start": start} for head in gains for start in ("random", "pca")}
    means = {name: gains[cell["head"]][cell["start"] == "pca"] for name, cell in cells.items()}
    main = effects(experiment(2, means, seeds=5, seed_sd=0.2, noise_sd=0.3), cells).main
    assert {one.levels[0]: one.misleading for one in main if one.factors == ("head",)} == {"ffn": (), "glu": ("start",)}


def test_effects_that_were_read_before_are_judged_more_strictly():
    scores, cells = grid(5, lambda depth, **_: 0.1 * depth, seeds=5)
    first, again = (effects(scores, cells, read_before=before).main[0] for before in (False, True))
    for scope in ("these_queries", "new_queries"):
        one, other = getattr(first, scope), getattr(again, scope)
        assert one.difference == other.difference
        assert one.adjusted_p < other.adjusted_p
    one, other = first.these_queries, again.these_queries
    z = [special.ndtri(special.stdtr(s.df, (s.high - s.difference) / s.standard_error)) for s in (one, other)]
    assert z[1] / z[0] == pytest.approx(1.4)


def test_effects_are_found_that_no_single_pair_of_variants_shows():
    scores, cells = grid(2, lambda depth, **_: 0.25 * depth, seed_sd=0.1, noise_sd=0.5)
    depth = effects(scores, cells).main[0]
    single = effects(
        {n: scores[n] for n, c in cells.items() if c["activation"] == "gelu" and c["residual"]},
        {n: {"depth": c["depth"]} for n, c in cells.items() if c["activation"] == "gelu" and c["residual"]},
    )
    assert depth.these_queries.word == "better"
    assert single.main[0].these_queries.word == "no difference shown"


def test_more_than_two_levels_are_compared_with_the_first():
    scores, cells = grid(3, lambda pairs, depth: 0.001 * pairs, {"pairs": (400, 1600, 6400), "depth": (2, 3)})
    first, second, _ = effects(scores, cells).main
    assert (first.levels, second.levels, second.against) == ((1600,), (6400,), (400,))
    assert second.new_queries.difference == pytest.approx(6.0, abs=0.2)
    assert len(effects(scores, cells).interactions) == 2


def test_an_incomplete_grid_gives_main_effects_if_there_is_no_interaction_and_says_so():
    scores, cells = grid(
        4, lambda depth, residual: depth + 2.0 * residual, {"depth": (2, 3), "residual": (False, True)}
    )
    missing = str((3, True))
    found = effects(scores, {name: cell for name, cell in cells.items() if name != missing})
    assert found.assumed_absent == (("depth", "residual"),)
    assert found.interactions == ()
    assert [one.these_queries.difference for one in found.main] == pytest.approx([1.0, 2.0], abs=0.3)


def test_a_shared_start_is_cancelled():
    quiet = {"seed_sd": 0.05, "noise_sd": 0.1}
    scores, cells = grid(5, lambda depth, **_: 0.3 * depth, start_sd=2.0, seeds=5, **quiet)
    depth = effects(scores, cells).main[0]
    assert depth.these_queries.word == "better"
    alone = {name: Scores(one.seeds, one.tables) for name, one in scores.items()}
    assert effects(alone, cells).main[0].these_queries.word == "no difference shown"


def test_intervals_are_simultaneous_and_agree_with_the_words():
    for random in range(10):
        scores, cells = grid(random, lambda depth, **_: 0.1 * depth)
        found = effects(scores, cells)
        for one in (*found.main, *found.interactions):
            for scope in (one.these_queries, one.new_queries):
                assert (scope.low > 0 or scope.high < 0) == (scope.adjusted_p < 0.05)
                assert scope.adjusted_p == pytest.approx(1 - (1 - scope.p_value) ** 6, rel=1e-4)


def test_grids_that_show_nothing_are_refused():
    scores, cells = grid(0, lambda **_: 0.0)
    with pytest.raises(ProjheadsError, match="no factor has two levels"):
        effects(scores, {name: {"depth": 2} for name in cells})
    with pytest.raises(ProjheadsError, match="fewer than 3 seeds"):
        effects({name: one.rows(0, 2) for name, one in scores.items()}, cells)
    with pytest.raises(ProjheadsError, match="cannot show the effect of"):
        effects(scores, {name: {"a": cell["depth"], "b": cell["depth"]} for name, cell in cells.items()})
    with pytest.raises(ProjheadsError, match="name the same"):
        effects(scores, cells | {next(iter(cells)): {"depth": 2}})
