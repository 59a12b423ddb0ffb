"""A plot's values as people read them in a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

__all__ = ["newest"]

SHOWN: Final = 14
_DAY: Final = 86_400


class Plot(Protocol):
    """What is taken of a mart's plot."""

    @property
    def x(self) -> Sequence[float]: ...
    @property
    def y(self) -> Sequence[float | None]: ...


def newest(plot: Plot) -> list[tuple[str, float | None]]:
    """The newest points, the newest first: a day, or a moment where points are no whole days, and its value."""
    days = all(value % _DAY == 0 for value in plot.x)
    form = "%Y-%m-%d" if days else "%Y-%m-%d %H:%M:%S"
    pairs = list(zip(plot.x, plot.y, strict=True))[-SHOWN:]
    return [(f"{datetime.fromtimestamp(x, UTC):{form}}", y) for x, y in reversed(pairs)]
