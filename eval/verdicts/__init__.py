"""What the scores allow to be said. Arrays and numbers in, numbers and words out; no files and no models.

Per-query scores of a variant's trials are a ``Scores``: its seeds, for each data set an array (seeds, queries), and the
start that it shares with other variants, if it does::

    scores = {"linear": Scores((0, 1, 2), (table,), start_group="pca"), "ffn": Scores(...)}

    verdicts = judge(scores, "linear", resolution=0.01)      # a Verdict of each variant, in two scopes
    verdicts["ffn"].these_queries.word                       # "better": for this benchmark, whatever the seeds
    verdicts["ffn"].new_queries                              # difference, low, high, p_value, adjusted_p, word
    verdicts["ffn"].ahead, verdicts["ffn"].seeds             # ahead in so many of so many seeds; None if unpaired
    verdicts["ffn"].smallest_shown, verdicts["ffn"].queries_needed(), verdicts["ffn"].seeds_needed()
    judge_datasets(scores, "linear", names)                  # one judge per data set, corrected for all of them

    decide(scores, "linear", [3, 5, 8], most=20, resolution=0.01)   # a Decision of each, its error over all looks
    race(scores, [3, 5, 8])                                  # who is left of many, and which seeds chose them
    judge(fresh(scores, race_.chosen_with), "linear")        # the survivors' gain, on seeds that did not choose them
    effects(scores, {"ffn(depth=2)": {"depth": 2}, ...})     # main effects and interactions of a grid
    winner(verdicts)                                         # the largest difference, and what it is without its luck
    astray_trials(scores)                                    # then judge with them, and with Scores.without(seeds)

    baseline_seeds(5, variants=7)                            # seeds that suit the baseline beside 5 of each variant
    smallest_equivalence(2 * 0.0468**2 / 300, variants=6)    # the resolution that 300 queries allow at best

docs/method/verdicts.md states the method, ``benchmarks/calibration.py`` measures it.
"""

from eval.verdicts.astray import Astray, astray_trials
from eval.verdicts.factors import Effect, Effects, effects
from eval.verdicts.judge import MINIMUM_SEEDS, Scope, Verdict, Word, judge, judge_datasets
from eval.verdicts.looks import Decision, Look, Race, decide, fresh, race
from eval.verdicts.power import ALPHA, POWER, Design, baseline_seeds, smallest_equivalence
from eval.verdicts.scores import Scores
from eval.verdicts.winner import Winner, winner

__all__ = [
    "ALPHA",
    "MINIMUM_SEEDS",
    "POWER",
    "Astray",
    "Decision",
    "Design",
    "Effect",
    "Effects",
    "Look",
    "Race",
    "Scope",
    "Scores",
    "Verdict",
    "Winner",
    "Word",
    "astray_trials",
    "baseline_seeds",
    "decide",
    "effects",
    "fresh",
    "judge",
    "judge_datasets",
    "race",
    "smallest_equivalence",
    "winner",
]
