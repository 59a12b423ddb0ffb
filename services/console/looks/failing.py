"""A row that broke a rule, its values hidden unless they were asked for."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from libs.operations.judged import may_be_told

__all__ = ["FailingRow", "failing_row", "hidden", "told_check"]

HIDDEN: Final = "•••••"
"""What stands for a value that nobody asked to see."""


class FailingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that broke a rule; its values are hidden unless they were asked for."""

    rule: str
    source: str
    event_id: str
    key: str | None
    observed: str | None


def failing_row(row: dict[str, Any], *, reveal: bool) -> FailingRow:
    """Of a row as libs.operations.reading.quality_failures tells it."""
    return FailingRow(
        rule=row["rule"],
        source=row["source_system"],
        event_id=row["event_id"],
        key=row["business_key"] if reveal else hidden(row["business_key"]),
        observed=row["observed"] if reveal else hidden(row["observed"]),
    )


def told_check(check: dict[str, Any], *, reveal: bool) -> dict[str, Any]:
    """A rule's result, as libs.operations.reading.quality_results tells it, without what may be anybody's data."""
    if reveal or may_be_told(check["kind"], check["observed"]):
        return check
    return {**check, "observed": HIDDEN}


def hidden(value: object) -> str | None:
    return None if value is None else HIDDEN
