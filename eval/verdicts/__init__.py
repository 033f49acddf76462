"""What the scores allow to be said: intervals, corrected tests, power, groups and shares of the variance.

Arrays and numbers in, numbers and words out; no files and no models. ``eval.verdicts.variance`` states the method.
"""

from eval.verdicts.judge import ALPHA, MINIMUM_SEEDS, Verdict, judge
from eval.verdicts.variance import Scores

__all__ = ["ALPHA", "MINIMUM_SEEDS", "Scores", "Verdict", "judge"]
