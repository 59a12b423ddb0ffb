"""When to try an alert again."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["MAX_ATTEMPTS", "pause_before"]

MAX_ATTEMPTS: Final = 30
"""Tries of one alert before it is left unsent: two hours of them."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0


def pause_before(attempt: int, *, rng: random.Random) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed: doubling, capped, with full jitter.

    Full jitter, at least a tenth: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return rng.uniform(longest / 10, longest)
