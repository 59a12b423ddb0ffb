"""When to try an alert again."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["MAX_ATTEMPTS", "pause_before", "retry_after"]

MAX_ATTEMPTS: Final = 30
"""Tries of one alert before it is left unsent: two hours of them."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0
_LONGEST_WAIT: Final = 3600.0


def pause_before(attempt: int, *, rng: random.Random) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed: doubling, capped, with full jitter.

    Full jitter, at least a tenth: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return rng.uniform(longest / 10, longest)


def retry_after(header: str | None, *, now: datetime) -> float | None:
    """Seconds that a server asks to wait (RFC 9110: number or date), at most an hour; None if it doesn't."""
    if header is None:
        return None
    text = header.strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return min(max(0.0, (aware - now).total_seconds()), _LONGEST_WAIT)
