"""Measures of spectra that training's probe and the diagnostics share."""

import numpy as np

__all__ = ["effective_rank"]


def effective_rank(values: np.ndarray) -> float | None:
    """Return exp(entropy) of singular values (n,) scaled to sum to 1; None if all are 0.

    Roy and Vetterli, 2007, The effective rank (EUSIPCO).
    """
    shares = values[values > 0] / values.sum() if values.sum() > 0 else np.zeros(0)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else None
