"""How many examples a property test tries: few and always the same in the suite, many new ones by ``make fuzz``."""

import os

from hypothesis import HealthCheck, settings

__all__ = ["fuzz"]

FACTOR = int(os.environ.get("PROJHEADS_FUZZ", "1"))
"""What multiplies the examples of every fuzzer."""


def fuzz(examples):
    """Let a test try so many examples, times ``FACTOR``."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
