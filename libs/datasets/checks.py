"""One entry of a contract's `quality` list, and the numbers it compares with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from libs.datasets.document import Findings, Place
from libs.datasets.model import Column, Comparison

__all__ = ["Check", "Scope", "snake"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a rule stands: at a property (column is set) or a schema object, of the dataset or of a mart."""

    relation: str
    is_mart: bool
    column: Column | None
    fields: dict[str, Column]

    @property
    def subject(self) -> str:
        return self.column.name if self.column else self.relation.partition(".")[2]

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column.name,) if self.column else ()


@dataclass(frozen=True, slots=True)
class Check:
    """A quality entry with its name, its place in the file and where it applies."""

    body: dict[str, Any]
    name: str
    at: Place
    scope: Scope
    findings: Findings

    @property
    def description(self) -> str | None:
        return self.body.get("description")

    def fault(self, key: str | None, what: str, instead: str) -> None:
        place = self.at if key is None else (*self.at, key)
        self.findings.add(place, f"rule {self.name}: {what}", instead)

    def tolerance(self) -> float:
        """The share (0..1) of rows that may break a row rule."""
        limit = _number(self.body.get("mustBe", self.body.get("mustBeLessOrEqualTo")))
        if limit == 0:
            return 0.0
        is_share = self.body.get("unit") == "percent" and "mustBeLessOrEqualTo" in self.body
        if limit is not None and is_share and 0 < limit <= 100:
            return round(limit / 100, 12)
        self.fault(
            None,
            "the tolerance of a row rule is a share of the rows",
            "mustBe: 0, or mustBeLessOrEqualTo: 2 with unit: percent (0 to 100)",
        )
        return 0.0

    def comparison(self) -> Comparison:
        """The bounds of a table rule's number."""
        if "mustBeBetween" in self.body:
            low, high = self.body["mustBeBetween"]
            if low < high:
                return Comparison(low, high)
        elif (number := _number(self.body.get("mustBe"))) is not None:
            return Comparison(number, number)
        elif (number := _number(self.body.get("mustBeGreaterThan"))) is not None:
            return Comparison(number, None, strict_minimum=True)
        elif (number := _number(self.body.get("mustBeGreaterOrEqualTo"))) is not None:
            return Comparison(number, None)
        elif (number := _number(self.body.get("mustBeLessThan"))) is not None:
            return Comparison(None, number, strict_maximum=True)
        elif (number := _number(self.body.get("mustBeLessOrEqualTo"))) is not None:
            return Comparison(None, number)
        self.fault(
            None,
            "the comparison needs a number (mustNotBe is not taken)",
            "mustBe: 0, mustBeGreaterOrEqualTo: 1, mustBeBetween: [1, 2] …",
        )
        return Comparison()


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def snake(text: str) -> str:
    """A name in snake case, at most 63 characters, from any text."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    return re.sub(r"[^a-z0-9_]+", "_", spaced).strip("_")[:63]
