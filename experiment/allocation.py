"""How many seeds the baseline has beside those of the variants."""

import math

__all__ = ["baseline_seeds"]


def baseline_seeds(seeds: int, variants: int) -> int:
    """Return how many seeds of the baseline suit so many of each variant: ceil(seeds sqrt(variants)).

    For variants that are paired with the baseline, its further seeds are of no use.
    """
    return math.ceil(seeds * math.sqrt(max(1, variants)) - 1e-9)
