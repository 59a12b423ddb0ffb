"""The quality gate's verdicts as they are told and drawn: the answer, a row of cells a rule, and its trend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from libs.operations.judged import Judged, JudgedGeneration, Readable, RuleResult
from services.console.domain.commands import Command

__all__ = [
    "CELL",
    "HEIGHT",
    "TREND_HEIGHT",
    "Answer",
    "Cell",
    "Column",
    "Row",
    "Trend",
    "answer",
    "columns",
    "commands_for_generation",
    "rows",
    "trend",
]

CELL: Final = 20
"""Width of a column; a cell is a little narrower."""
HEIGHT: Final = 22
TREND_HEIGHT: Final = 22
_LABELLED: Final = 5
"""Every so many columns, from the newest, have their number above them."""
_ROOM: Final = 3.0
"""A trend's scale goes to so many times what is tolerated; what is beyond is cut off."""
_BROKEN: Final = ("fail", "error")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a dataset's newest data passes.

    is_: passes; accepted: the gate had blocked it; blocked: by rules; unjudged: the gate could not tell.
    generation: the one that is meant. since: when its verdict fell, or that of the first of the blocked ones before it.
    readable: what readers see. waiting: rows that they lack because of it. set_aside: a newer generation that was
    blocked, and whose batches were held or published otherwise since.
    """

    dataset: str
    is_: Literal["passes", "accepted", "blocked", "unjudged"] = msgspec.field(name="is")
    generation: int
    rules: list[str]
    since: datetime | None
    readable: int | None
    waiting: int
    pinned: str | None
    override_reason: str | None
    set_aside: int | None


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A judged generation in the map, with x, its left edge, and label, if its number stands above it."""

    generation: JudgedGeneration
    x: int
    label: bool
    chosen: bool
    readable: bool


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A rule on a generation. status None: the rule was not judged on it. share: rows that break it, a part of one."""

    generation: int
    x: int
    status: str | None
    share: float | None
    observed: str | None


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """The share of rows that break a rule, a bar for each generation that has one.

    within, beyond: bars (paths) up to what is tolerated, and over it. cut: marks on those that end beyond the scale.
    tolerance_y: where the line of what is tolerated lies; None if nothing is, or no row broke the rule.
    newest, highest, tolerance: parts of one.
    """

    within: str
    beyond: str
    cut: str
    tolerance_y: float | None
    newest: float
    highest: float
    tolerance: float | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A rule over the generations, oldest first."""

    rule: str
    cells: list[Cell]
    trend: Trend | None

    def count(self, status: str) -> int:
        return sum(cell.status == status for cell in self.cells)


def answer(judged: Judged, readable: Readable | None) -> Answer | None:
    """None if nothing of the dataset was judged yet."""
    if not judged.generations:
        return None
    newest, seen = judged.generations[0], None if readable is None else readable.generation
    aside = newest.number if newest.state == "blocked" and not newest.waiting else None
    if aside is not None and readable is not None:
        current = next((one for one in judged.generations if one.number == readable.generation), None)
        return _answer(
            judged.dataset,
            readable,
            generation=readable.generation,
            verdict=readable.verdict,
            override=readable.override_reason,
            since=readable.published_at if current is None else current.verdict_at,
            broken=[] if current is None else _broken(current),
            aside=aside,
        )
    blocked = newest.state == "blocked"
    return Answer(
        dataset=judged.dataset,
        is_=("blocked" if newest.verdict == "fail" else "unjudged") if blocked else _published(newest),
        generation=newest.number,
        rules=_broken(newest),
        since=_blocked_since(judged.generations) if blocked else newest.verdict_at,
        readable=seen,
        waiting=newest.waiting,
        pinned=None if readable is None else readable.pinned,
        override_reason=newest.override_reason,
        set_aside=None,
    )


def _answer(
    dataset: str,
    readable: Readable,
    *,
    generation: int,
    verdict: str | None,
    override: str | None,
    since: datetime | None,
    broken: list[str],
    aside: int,
) -> Answer:
    return Answer(
        dataset=dataset,
        is_="passes" if verdict == "pass" else "accepted",
        generation=generation,
        rules=broken,
        since=since,
        readable=readable.generation,
        waiting=0,
        pinned=readable.pinned,
        override_reason=override,
        set_aside=aside,
    )


def _published(generation: JudgedGeneration) -> Literal["passes", "accepted"]:
    return "passes" if generation.verdict == "pass" else "accepted"


def _broken(generation: JudgedGeneration) -> list[str]:
    return [result.rule for result in generation.results if result.status in _BROKEN]


def _blocked_since(generations: Sequence[JudgedGeneration]) -> datetime | None:
    """When the first of the generations fell that were blocked one after the other, and for which rows still wait."""
    since = generations[0].verdict_at
    for one in generations:
        if one.state != "blocked" or not one.waiting:
            break
        since = one.verdict_at
    return since


def columns(judged: Judged, *, chosen: int | None, readable: int | None) -> list[Column]:
    """The generations, oldest left."""
    oldest_first = judged.generations[::-1]
    last = len(oldest_first) - 1
    near = next((at for at, one in enumerate(oldest_first) if one.number == chosen), None)
    return [
        Column(
            generation=one,
            x=at * CELL,
            label=at == near or ((last - at) % _LABELLED == 0 and (near is None or abs(at - near) > 1)),
            chosen=at == near,
            readable=one.number == readable,
        )
        for at, one in enumerate(oldest_first)
    ]


def rows(judged: Judged) -> list[Row]:
    """A row for each rule; first those that failed, or were in error, most recently."""
    oldest_first = judged.generations[::-1]
    found: dict[str, dict[int, RuleResult]] = {}
    for one in oldest_first:
        for result in one.results:
            found.setdefault(result.rule, {})[one.number] = result
    made = [_row(rule, oldest_first, results) for rule, results in found.items()]
    return sorted(made, key=lambda row: (-_last_broken(row), row.count("not run") == 0, row.rule))


def _last_broken(row: Row) -> int:
    """The place of the newest cell in which the rule was broken; -1 if there is none."""
    return max((at for at, cell in enumerate(row.cells) if cell.status in _BROKEN), default=-1)


def _row(rule: str, generations: Sequence[JudgedGeneration], results: Mapping[int, RuleResult]) -> Row:
    cells = []
    for at, one in enumerate(generations):
        result = results.get(one.number)
        cells.append(
            Cell(
                generation=one.number,
                x=at * CELL,
                status=None if result is None else result.status,
                share=None if result is None else _share(result),
                observed=None if result is None else result.observed,
            )
        )
    newest = list(results.values())[-1]
    return Row(rule=rule, cells=cells, trend=trend([cell.share for cell in cells], newest.tolerance))


def _share(result: RuleResult) -> float | None:
    """None for a rule that doesn't count rows, or had none to look at."""
    if result.tolerance is None or not result.evaluated or result.unexpected is None:
        return None
    return result.unexpected / result.evaluated


def trend(shares: Sequence[float | None], tolerance: float | None) -> Trend | None:
    """A bar for each share, 4 apart; None if there is no share."""
    told = [share for share in shares if share is not None]
    if not told:
        return None
    highest, line = max(told), tolerance or 0.0
    top = max(min(highest, line * _ROOM) if line else highest, line) * 1.1 or 1.0
    within: list[str] = []
    beyond: list[str] = []
    cut: list[str] = []
    for at, share in enumerate(shares):
        if not share:
            continue
        x, y = at * 4 + 2, _y(share, top)
        (beyond if share > line else within).append(f"M{x},{TREND_HEIGHT} V{y:g}")
        if share > top:
            cut.append(f"M{x - 2},4 L{x},0 L{x + 2},4")
    return Trend(
        within=" ".join(within),
        beyond=" ".join(beyond),
        cut=" ".join(cut),
        tolerance_y=_y(line, top) if line and highest else None,
        newest=told[-1],
        highest=highest,
        tolerance=tolerance,
    )


def _y(share: float, top: float) -> float:
    """Where a bar ends; one that is not nought can be seen."""
    return round(max(0.0, min(TREND_HEIGHT * (1 - share / top), TREND_HEIGHT - 1.0)), 1)


def commands_for_generation(
    generation: Mapping[str, Any], *, acceptable: bool, waiting: Sequence[str]
) -> list[Command]:
    """Of a generation as libs.operations.reading.generation tells it. waiting: batches that it blocks."""
    number = generation["number"]
    found = [
        Command(f"drp quality show {number}", "its rules, and the rows that break one"),
        Command(f"drp why {number}", "why it is where it is"),
        Command(f"drp quality ls --dataset {generation['dataset']}", "the verdicts before it"),
    ]
    found += [Command(f"drp batches hold {batch} --reason …", "leave it out") for batch in waiting[:3]]
    if acceptable:
        found.append(Command(f"drp quality accept {number} --reason …", "have it published all the same"))
    return found
