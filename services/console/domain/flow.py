"""The flow: its stages, what each has to do and did, and the map that is drawn of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

__all__ = ["MAP_HEIGHT", "MAP_WIDTH", "Backlog", "FlowMap", "Line", "Stage", "Station", "flow_map", "stages"]

RATE_OVER: Final = 300.0
"""Seconds over which a rate is taken."""
BEHIND_AFTER: Final = 30.0
"""Seconds that an entry may lie given out and unacknowledged before its stage is called behind."""


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage's consumer group has yet to do in a stream, in entries.

    unread is None where Redis can't tell; oldest_pending: seconds since the oldest entry in hand was touched.
    """

    stream: str
    group: str
    pending: int
    unread: int | None
    oldest_pending: float | None


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the flow over the last 24 hours.

    name: the service; step: what it does, in a word. waiting: entries that it has yet to do; runs, failed and
    records_per_second (over the last five minutes): what it did; each None if that is not known. p50 and p95: seconds.
    state: idle, working, behind, failing, blocked or unknown.
    """

    name: str
    step: str
    state: str
    waiting: int | None
    oldest_pending: float | None
    runs: int | None
    failed: int | None
    records_per_second: float | None
    p50: float | None
    p95: float | None
    last_run_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    backlogs: list[Backlog]


@dataclass(frozen=True, slots=True)
class _Place:
    """A stage as it is known beforehand: its service, its word, its flows in the audit, the streams it hears."""

    name: str
    step: str
    flows: tuple[str, ...]
    streams: tuple[str, ...] = ()


PLACES: Final = (
    _Place("ingestor", "ingest", ("ingest",), ("*",)),
    _Place("transformer", "transform", ("transform",), ("drp.batches",)),
    _Place("validator", "gate", ("validate",), ("drp.warehouse",)),
    _Place("transformer", "publish", ("publish",), ("drp.quality", "drp.archive")),
    _Place(
        "archiver",
        "archive",
        ("archive-raw", "archive-snapshot", "archive"),
        ("drp.batches", "drp.warehouse"),
    ),
    _Place(
        "audit",
        "audit",
        ("audit",),
        ("drp.batches", "drp.warehouse", "drp.quality", "drp.archive", "drp.steps"),
    ),
)
"""`*`: the datasets' own streams. What the audit finds late is no failure of its own: its flows are left out."""
FAILURE: Final = {"gate": "blocked"}
"""What a step's state is called if its last run failed, where that is not `failing`."""


def stages(flows: Iterable[Mapping[str, Any]] | None, backlogs: Sequence[Backlog] | None) -> list[Stage]:
    """The stages in their order.

    Args:
        flows: rows of libs.operations.health.flow_health; None: Postgres could not be asked.
        backlogs: of every declared group; None: Redis could not be asked.
    """
    by_name = {row["flow_name"]: row for row in flows or ()}
    found = [
        _stage(place, [by_name[name] for name in place.flows if name in by_name], _of(place, backlogs))
        for place in PLACES
    ]
    if flows is None:
        return [_without_runs(stage) for stage in found]
    written = sum(row["runs"] for row in by_name.values())
    last = max((row["last_run_at"] for row in by_name.values()), default=None)
    # Each step of the others is a row that the audit wrote.
    found[-1] = msgspec.structs.replace(found[-1], runs=written, last_run_at=last)
    return found


def _without_runs(stage: Stage) -> Stage:
    """Its entries alone tell whether it is behind; not whether it does nothing, or fails."""
    state = stage.state if stage.state == "behind" else "unknown"
    return msgspec.structs.replace(stage, state=state, runs=None, failed=None, records_per_second=None)


def _of(place: _Place, backlogs: Sequence[Backlog] | None) -> list[Backlog] | None:
    if backlogs is None:
        return None
    return [
        one
        for one in backlogs
        if one.group == place.name
        and (one.stream in place.streams or ("*" in place.streams and not one.stream.startswith("drp.")))
    ]


def _stage(place: _Place, rows: Sequence[Mapping[str, Any]], backlogs: list[Backlog] | None) -> Stage:
    waiting = _waiting(backlogs)
    oldest = max(
        (one.oldest_pending for one in backlogs or () if one.oldest_pending is not None), default=None
    )
    runs = sum(row["runs"] for row in rows)
    records = sum(row["records_in_5_minutes"] for row in rows)
    last_run = max((row["last_run_at"] for row in rows), default=None)
    failures = [row for row in rows if row["last_failed_at"] is not None]
    worst = max(failures, key=lambda row: row["last_failed_at"], default=None)
    failed_at = None if worst is None else worst["last_failed_at"]
    longest = max(rows, key=lambda row: row["p95_seconds"], default=None)
    return Stage(
        name=place.name,
        step=place.step,
        state=FAILURE.get(place.step, "failing")
        if failed_at is not None and failed_at == last_run
        else _state(waiting, oldest, busy=records > 0),
        waiting=waiting,
        oldest_pending=oldest,
        runs=runs,
        failed=sum(row["failed"] for row in rows),
        records_per_second=records / RATE_OVER,
        p50=None if longest is None else longest["p50_seconds"],
        p95=None if longest is None else longest["p95_seconds"],
        last_run_at=last_run,
        last_error=None if worst is None else worst["last_error"],
        last_error_at=failed_at,
        backlogs=backlogs or [],
    )


def _waiting(backlogs: list[Backlog] | None) -> int | None:
    if backlogs is None or any(one.unread is None for one in backlogs):
        return None
    return sum(one.pending + (one.unread or 0) for one in backlogs)


def _state(waiting: int | None, oldest: float | None, *, busy: bool) -> str:
    if waiting is None:
        return "unknown"
    if oldest is not None and oldest > BEHIND_AFTER:
        return "behind"
    return "working" if waiting or busy else "idle"


MAP_WIDTH: Final = 1120
MAP_HEIGHT: Final = 228
_MAIN_Y: Final = 78
_SIDE_Y: Final = 196
_FIRST_X: Final = 12
_STEP_X: Final = 236
_TURN: Final = 10
"""The radius of a bend."""


@dataclass(frozen=True, slots=True)
class Station:
    """A point of the map. count: of unit, None if not known. stage: None is a place, and no service's work.

    waiting: entries on their way to it; None if there is no such number to show.
    """

    x: int
    y: int
    title: str
    count: int | None
    unit: str
    stage: Stage | None = None
    waiting: int | None = None

    @property
    def state(self) -> str:
        return "working" if self.stage is None else self.stage.state


@dataclass(frozen=True, slots=True)
class Line:
    """A way of the map, as an SVG path. What leaves the flow on it is named and counted at (x, y)."""

    path: str
    tone: str = "main"
    label: str = ""
    count: int | None = None
    x: int = 0
    y: int = 0


@dataclass(frozen=True, slots=True)
class FlowMap:
    stations: list[Station]
    lines: list[Line]
    width: int = MAP_WIDTH
    height: int = MAP_HEIGHT


def flow_map(found: Sequence[Stage], counts: Mapping[str, int | None]) -> FlowMap:
    """The map: the way of the events from left to right, and what leaves it downwards.

    Args:
        found: the stages, in their order.
        counts: published, accepted, duplicate, refused, staged, rejected, verdicts, readable, objects; None or left
            out: not known.
    """
    by_step = {stage.step: stage for stage in found}

    def station(column: int, step: str, key: str, unit: str, *, y: int = _MAIN_Y) -> Station:
        stage = by_step[step]
        return Station(_x(column), y, step, counts.get(key), unit, stage, stage.waiting)

    first = Station(_x(0), _MAIN_Y, "published", counts.get("published"), "events")
    main = [
        first,
        station(1, "ingest", "accepted", "accepted"),
        station(2, "transform", "staged", "rows built"),
        station(3, "gate", "verdicts", "verdicts today"),
        station(4, "publish", "readable", "rows readable"),
    ]
    side = [
        station(3, "archive", "objects", "objects", y=_SIDE_Y),
        station(4, "audit", "steps", "steps today", y=_SIDE_Y),
    ]
    lines = [Line(f"M{main[0].x},{_MAIN_Y} H{main[-1].x}")]
    lines += [_to_archive(main[1], side[0]), Line(f"M{side[0].x},{_SIDE_Y} H{side[1].x}", "side")]
    lines += [
        _leaves(main[1], 40, "duplicate", counts.get("duplicate"), "quiet"),
        _leaves(main[1], 66, "refused", counts.get("refused"), "bad"),
        _leaves(main[2], 40, "rejected", counts.get("rejected"), "quiet"),
    ]
    return FlowMap(stations=[*main, *side], lines=lines)


def _x(column: int) -> int:
    return _FIRST_X + column * _STEP_X


def _to_archive(start: Station, end: Station) -> Line:
    down = f"V{end.y - _TURN} q0,{_TURN} {_TURN},{_TURN}"
    return Line(f"M{start.x},{start.y} {down} H{end.x}", "side")


def _leaves(station: Station, down: int, label: str, count: int | None, tone: str) -> Line:
    y = station.y + down
    path = f"M{station.x},{station.y} V{y - _TURN} q0,{_TURN} {_TURN},{_TURN} h8"
    return Line(path, tone if count else "quiet", label, count, station.x + 26, y + 4)
