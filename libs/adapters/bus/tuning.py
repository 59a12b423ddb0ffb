"""The numbers of the bus in one place, so that tests can hurry it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tuning"]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Times in seconds.

    Attributes:
        abandoned_after: an entry untouched for so long belongs to a dead consumer. A living one touches what
            it has in hand three times as often.
        graceful: how long a handler may go on once stop() was called; a service drains in eight seconds.
        deliveries: an entry given out so often and never finished is undeliverable; it was alone at last.
        refusals: how often a single entry is given to a handler that raises Permanent.
        first_pause, longest_pause: back-off between two tries, exponential, jittered, capped.
        forgotten_after: a consumer without pending entries, unheard of for so long, is taken off the group.
    """

    abandoned_after: float = 30.0
    graceful: float = 6.0
    deliveries: int = 5
    refusals: int = 3
    first_pause: float = 0.1
    longest_pause: float = 10.0
    forgotten_after: float = 3600.0
