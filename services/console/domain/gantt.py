"""A batch's way as a gantt: a lane for each step, its tries below each other, and what it waited before each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

__all__ = ["GANTT_WIDTH", "Bar", "Gantt", "Lane", "Tick", "drawn", "lanes"]

LANES: Final = ("ingest", "transform", "gate", "publish", "archive", "audit")
AUDIT: Final = "audit"
_OF_FLOW: Final = {
    "ingest": "ingest",
    "transform": "transform",
    "validate": "gate",
    "publish": "publish",
    "archive-raw": "archive",
    "archive": "archive",
}
"""The lane of an audit row's flow; a snapshot's archiving is the generation's, and comes after the batch's end."""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A try of a step. waited_since: when it could have begun; ended_at: None while it goes on."""

    label: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    waited_since: datetime | None
    detail: str | None = None


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """A step and its tries, oldest first; none if it didn't come to it."""

    step: str
    bars: list[Bar]


def lanes(batch: Mapping[str, Any]) -> list[Lane]:
    """The lanes of a batch as libs.operations.reading.batch tells it, in their order."""
    found: dict[str, list[Bar]] = {step: [] for step in LANES}
    for row in batch["audit"]:
        if (step := _OF_FLOW.get(row["flow_name"])) is not None:
            found[step].append(_bar(row))
    if not found["ingest"]:
        found["ingest"].append(_open(batch))
    found["transform"] += _not_told(batch["generations"], found["transform"])
    found[AUDIT] += [_telling(row) for row in batch["audit"] if row["flow_name"] in _OF_FLOW]
    return [Lane(step=step, bars=_waited(step, bars, found)) for step, bars in found.items()]


def _bar(row: Mapping[str, Any]) -> Bar:
    run = str(row["flow_run_id"])
    return Bar(
        label=run if run.startswith("generation-") else row["flow_name"],
        status=row["status"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        waited_since=None,
        detail=row["error_message"],
    )


def _open(batch: Mapping[str, Any]) -> Bar:
    return Bar(
        label="ingest",
        status="success" if batch["closed_at"] else "open",
        started_at=batch["opened_at"],
        ended_at=batch["closed_at"],
        waited_since=None,
    )


def _not_told(generations: Iterable[Mapping[str, Any]], told: Sequence[Bar]) -> list[Bar]:
    """Builds that no audit row tells of: those under way, and those given up."""
    known = {bar.label for bar in told}
    return [
        Bar(
            label=f"generation-{each['number']}",
            status=each["state"] if each["state"] in ("building", "abandoned") else "success",
            started_at=each["started_at"],
            ended_at=each["built_at"] or each["given_up_at"],
            waited_since=None,
            detail=each["error"],
        )
        for each in generations
        if f"generation-{each['number']}" not in known
    ]


def _telling(row: Mapping[str, Any]) -> Bar:
    """What the audit does with a step: from the step's end until its row is there."""
    return Bar(
        label=row["flow_name"],
        status="success",
        started_at=row["ended_at"],
        ended_at=max(row["recorded_at"], row["ended_at"]),
        waited_since=None,
    )


def _waited(step: str, bars: Sequence[Bar], found: Mapping[str, Sequence[Bar]]) -> list[Bar]:
    """Each try with the moment from which it could have begun: the end of the step before it."""
    before = {"transform": "ingest", "gate": "transform", "publish": "gate", "archive": "ingest"}.get(step)
    if before is None:
        return list(bars)
    ends = sorted(bar.ended_at for bar in found[before] if bar.ended_at is not None)
    told = []
    for bar in sorted(bars, key=lambda one: one.started_at):
        ready = max((end for end in ends if end <= bar.started_at), default=None)
        told.append(msgspec.structs.replace(bar, waited_since=ready))
    return told


GANTT_WIDTH: Final = 1120
_LEFT: Final = 108
_RIGHT: Final = 84
"""Room for the lanes' names, and for what is written beside the last bar."""
_ROW: Final = 26
_BAR: Final = 14
_TOP: Final = 30
_LEAST: Final = 3.0
"""No bar is narrower: what took a millisecond is still there to see."""
_ROUND: Final = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
    7200,
    21600,
    86400,
)
_TICKS: Final = 8


@dataclass(frozen=True, slots=True)
class DrawnBar:
    """Where a bar stands. wait_x and wait_width: the hatched part before it, no width if it didn't wait."""

    bar: Bar
    x: float
    y: float
    width: float
    height: float
    wait_x: float
    wait_width: float
    seconds: float
    waited: float | None
    text_x: float
    text_end: bool


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    seconds: float


@dataclass(frozen=True, slots=True)
class DrawnLane:
    step: str
    y: float
    height: float
    bars: list[DrawnBar]


@dataclass(frozen=True, slots=True)
class Gantt:
    width: int
    height: float
    left: int
    seconds: float
    lanes: list[DrawnLane]
    ticks: list[Tick]


def drawn(found: Sequence[Lane], *, now: datetime) -> Gantt:
    """Where everything stands. now: how far a bar reaches that goes on."""
    bars = [bar for lane in found for bar in lane.bars]
    began = min((bar.started_at for bar in bars), default=now)
    ended = max((bar.ended_at or now for bar in bars), default=now)
    whole = max((ended - began).total_seconds(), 0.001)
    scale = (GANTT_WIDTH - _LEFT - _RIGHT) / whole
    y = float(_TOP)
    rows = []
    for lane in found:
        stacked = lane.step != AUDIT  # whose rows are many and short, and follow each other
        height = max(len(lane.bars) if stacked else 1, 1) * _ROW
        placed = [
            _placed(bar, y + index * _ROW * stacked, began, now, scale) for index, bar in enumerate(lane.bars)
        ]
        rows.append(DrawnLane(lane.step, y, height, placed))
        y += height
    return Gantt(GANTT_WIDTH, y + 6, _LEFT, whole, rows, _ticks(whole, scale))


def _placed(bar: Bar, y: float, began: datetime, now: datetime, scale: float) -> DrawnBar:
    def at(moment: datetime) -> float:
        return round(_LEFT + (moment - began) / timedelta(seconds=1) * scale, 1)

    x = at(bar.started_at)
    seconds = ((bar.ended_at or now) - bar.started_at).total_seconds()
    width = round(max(seconds * scale, _LEAST), 1)
    waited = None if bar.waited_since is None else (bar.started_at - bar.waited_since).total_seconds()
    wait_x = x if bar.waited_since is None else at(bar.waited_since)
    beside = x + width + 8 > GANTT_WIDTH - _RIGHT + 10
    inside = beside and width > 120
    return DrawnBar(
        bar=bar,
        x=x,
        y=y + (_ROW - _BAR) / 2,
        width=width,
        height=_BAR,
        wait_x=wait_x,
        wait_width=round(max(0.0, x - wait_x), 1),
        seconds=seconds,
        waited=waited,
        text_x=x + width + 8 if not inside else x + width - 8,
        text_end=inside,
    )


def _ticks(whole: float, scale: float) -> list[Tick]:
    step = next((each for each in _ROUND if whole / each <= _TICKS), whole)
    count = int(whole / step) + 1
    return [Tick(round(_LEFT + index * step * scale, 1), index * step) for index in range(count)]
