"""How the console says things: numbers, spans of time, and the icon, word and colour that a state has."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

__all__ = ["Sign", "ago", "moment", "number", "rate", "share", "short", "sign", "size", "span"]

_STEPS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))
_SIZES: Final = ("B", "kB", "MB", "GB", "TB")
NOTHING: Final = "–"
"""What stands where there is no value."""


class Sign(NamedTuple):
    """A state as it is shown: the three always together. tone: good, wait, bad or quiet."""

    icon: str
    word: str
    tone: str


_SIGNS: Final = {
    "open": Sign("dots", "open", "quiet"),
    "closed": Sign("dots", "waiting", "wait"),
    "building": Sign("dots", "building", "wait"),
    "built": Sign("dots", "at the gate", "wait"),
    "passed": Sign("dots", "publishing", "wait"),
    "blocked": Sign("cross", "blocked", "bad"),
    "published": Sign("check", "published", "good"),
    "held": Sign("pause", "held", "quiet"),
    "empty": Sign("ring", "empty", "quiet"),
    "abandoned": Sign("ring", "given up", "quiet"),
    "retired": Sign("check", "retired", "quiet"),
    "pruned": Sign("ring", "pruned", "quiet"),
    "pass": Sign("check", "pass", "good"),
    "fail": Sign("cross", "fail", "bad"),
    "error": Sign("alert", "error", "bad"),
    "not run": Sign("ring", "not run", "quiet"),
    "success": Sign("check", "done", "good"),
    "failed": Sign("cross", "failed", "bad"),
    "idle": Sign("ring", "idle", "quiet"),
    "working": Sign("check", "working", "good"),
    "behind": Sign("dots", "behind", "wait"),
    "failing": Sign("cross", "failing", "bad"),
    "unknown": Sign("question", "unknown", "wait"),
    "staged": Sign("check", "readable", "good"),
    "applied": Sign("check", "readable", "good"),
    "rejected": Sign("cross", "rejected", "bad"),
    "superseded": Sign("ring", "superseded", "quiet"),
    "accepted": Sign("check", "accepted", "good"),
    "quarantined": Sign("cross", "quarantined", "bad"),
    "dead-lettered": Sign("cross", "dead-lettered", "bad"),
    "dead_lettered": Sign("cross", "dead-lettered", "bad"),
    "redriven": Sign("check", "redriven", "good"),
    "discarded": Sign("ring", "discarded", "quiet"),
}


def sign(state: str | None) -> Sign:
    """How a state is shown; one without a verdict yet is `not yet`."""
    if state is None:
        return Sign("ring", "not yet", "quiet")
    return _SIGNS.get(state, Sign("ring", state, "quiet"))


def number(value: float | Decimal | None) -> str:
    """With its thousands apart; a decimal keeps its digits, a float has two."""
    if value is None:
        return NOTHING
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def share(value: float | None) -> str:
    """A part of one, in per cent."""
    return NOTHING if value is None else f"{value * 100:.1f} %"


def rate(records: int | None, seconds: float) -> str:
    """Records a second, to two figures."""
    if records is None:
        return NOTHING
    each = records / seconds
    return (
        "0/s"
        if not records
        else f"{each:,.0f}/s"
        if each >= 10
        else f"{each:.1f}/s"
        if each >= 0.1
        else "<0.1/s"
    )


def span(seconds: float | None) -> str:
    """A span of time, to what matters of it: 12 ms, 3.4 s, 5 min 20 s, 2 h, 3 d."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    for length, unit in _STEPS:
        if seconds >= length:
            return _of(seconds, length, unit)
    return f"{seconds:.0f} s"


def _of(seconds: float, length: float, unit: str) -> str:
    whole, rest = divmod(seconds, length)
    smaller = {"d": (3_600.0, "h"), "h": (60.0, "min"), "min": (1.0, "s")}[unit]
    part = int(rest // smaller[0])
    return f"{whole:.0f} {unit} {part} {smaller[1]}" if part and whole < 10 else f"{whole:.0f} {unit}"


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago that was; a clock a little ahead of ours is now."""
    if then is None:
        return NOTHING
    seconds = (now - then).total_seconds()
    if seconds < 1:
        return "now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    for length, unit in _STEPS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return NOTHING


def moment(then: datetime | None) -> str:
    """Date and time in UTC, to the second."""
    return NOTHING if then is None else f"{then:%Y-%m-%d %H:%M:%S}"


def short(value: uuid.UUID | str) -> str:
    """The start of an id, which names it wherever `drp` takes one."""
    return str(value)[:8]


def size(count: int | None) -> str:
    """Bytes, to three figures."""
    if count is None:
        return NOTHING
    value = float(count)
    for unit in _SIZES:
        if value < 1000 or unit == _SIZES[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return NOTHING
