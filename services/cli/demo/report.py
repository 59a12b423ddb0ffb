"""What the demo measured, and whether every invariant held."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["REAL_ORDERS", "Check", "Known", "Report"]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the published file that were known before: rows, customers, days, total, and its first day."""

    orders: int
    total: Decimal
    first_day: str
    first_day_orders: int
    first_day_total: Decimal
    days: int


REAL_ORDERS: Final = Known(
    orders=69_659,
    total=Decimal("2500315.63"),
    first_day="1997-01-01",
    first_day_orders=212,
    first_day_total=Decimal("7515.35"),
    days=546,
)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One invariant: what it says, what was expected, what was found."""

    name: str
    expected: str
    found: str
    held: bool


class Report(msgspec.Struct, kw_only=True):
    """Written to demo-report.json. Counts are of events unless they say otherwise; seconds of the whole demo."""

    published: int = 0
    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    dead_lettered: int = 0
    unaccounted: int = 0
    conflicts: int = 0
    rejected: int = 0
    held: int = 0
    generations_published: int = 0
    generations_blocked: int = 0
    archive_objects: int = 0
    archive_verified: bool = False
    replay_identical: bool = False
    seconds: float = 0.0
    seconds_to_ready: float = 0.0
    publish_rate: float = 0.0
    ingestor_restarts: int = 0
    replayed: int = 0
    checks: list[Check] = msgspec.field(default_factory=list)

    def expect(self, name: str, expected: object, found: object) -> bool:
        """Note whether an invariant held."""
        held = expected == found
        self.checks.append(Check(name=name, expected=_said(expected), found=_said(found), held=held))
        return held

    @property
    def passed(self) -> bool:
        return all(check.held for check in self.checks)

    def write(self, path: Path) -> None:
        document = {"passed": self.passed, **msgspec.to_builtins(self)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def _said(value: object) -> str:
    """As people read it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | Decimal():
            return f"{value:,}"
        case tuple():
            return "; ".join(_said(each) for each in value)
        case []:
            return "none"
    return str(value)
