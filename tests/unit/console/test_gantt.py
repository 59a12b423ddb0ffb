"""A batch's way as a gantt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from services.console.domain.gantt import GANTT_WIDTH, LANES, Bar, Lane, drawn, lanes

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def a_step(flow: str, start: float, end: float, run: str = "b", **values: Any) -> dict[str, Any]:
    return {
        "flow_name": flow,
        "flow_run_id": run,
        "status": "success",
        "started_at": at(start),
        "ended_at": at(end),
        "recorded_at": at(end + 0.05),
        "error_message": None,
    } | values


def a_batch(*audit: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"opened_at": BEGAN, "closed_at": at(2), "audit": list(audit), "generations": []} | values


def a_generation(state: str, **values: Any) -> dict[str, Any]:
    known = {"number": 3, "started_at": at(2.2), "built_at": None, "given_up_at": None, "error": None}
    return {**known, "state": state, **values}


def bars_of(batch: dict[str, Any], step: str) -> list[Bar]:
    return next(lane.bars for lane in lanes(batch) if lane.step == step)


def test_the_lanes_stand_in_the_order_of_the_flow_also_those_it_did_not_come_to() -> None:
    found = lanes(a_batch())
    assert tuple(lane.step for lane in found) == LANES
    assert [lane.step for lane in found if lane.bars] == ["ingest"]


def test_a_step_waited_from_the_end_of_the_one_before_it() -> None:
    batch = a_batch(a_step("ingest", 0, 2), a_step("transform", 2.5, 3, "generation-1"))
    (bar,) = bars_of(batch, "transform")
    assert bar.waited_since == at(2)


def test_tries_stand_in_the_order_they_were_made_each_with_its_own_waiting() -> None:
    batch = a_batch(
        a_step("ingest", 0, 2),
        a_step("transform", 6, 7, "generation-2"),
        a_step("transform", 3, 4, "generation-1"),
        a_step("validate", 4.5, 5, "generation-1", status="failed"),
        a_step("validate", 7.5, 8, "generation-2"),
    )
    assert [bar.label for bar in bars_of(batch, "transform")] == ["generation-1", "generation-2"]
    assert [bar.waited_since for bar in bars_of(batch, "gate")] == [at(4), at(7)]
    assert [bar.status for bar in bars_of(batch, "gate")] == ["failed", "success"]


def test_a_build_under_way_is_there_before_any_row_tells_of_it() -> None:
    (bar,) = bars_of(a_batch(a_step("ingest", 0, 2), generations=[a_generation("building")]), "transform")
    assert (bar.status, bar.ended_at) == ("building", None)


def test_a_build_that_was_given_up_does_not_go_on() -> None:
    given_up = a_generation("abandoned", given_up_at=at(4))
    batch = a_batch(a_step("ingest", 0, 2), generations=[given_up])
    (bar,) = bars_of(batch, "transform")
    assert (bar.status, bar.ended_at) == ("abandoned", at(4))
    assert drawn(lanes(batch), now=at(86_400)).seconds == 4


def test_a_missed_deadline_does_not_stretch_the_drawing() -> None:
    late = a_step("deadline", 2, 302, status="failed")
    assert drawn(lanes(a_batch(a_step("ingest", 0, 2), late)), now=at(400)).seconds < 3


def test_everything_stands_within_the_drawing_and_nothing_is_too_thin_to_see() -> None:
    batch = a_batch(a_step("ingest", 0, 2), a_step("transform", 2.0, 2.0001, "generation-1"))
    made = drawn(lanes(batch), now=at(10))
    bars = [bar for lane in made.lanes for bar in lane.bars]
    assert all(made.left <= bar.x and bar.x + bar.width <= GANTT_WIDTH for bar in bars)
    assert min(bar.width for bar in bars) >= 3
    assert made.ticks[0].seconds == 0
    assert len(made.ticks) <= 9


def test_tries_stand_below_each_other_and_the_rows_of_the_audit_beside() -> None:
    bar = Bar(label="x", status="success", started_at=at(0), ended_at=at(1), waited_since=None)
    made = drawn([Lane(step="transform", bars=[bar, bar]), Lane(step="audit", bars=[bar, bar])], now=at(1))
    tried, told = ([one.y for one in lane.bars] for lane in made.lanes)
    assert tried[1] > tried[0]
    assert told[0] == told[1]


def test_what_goes_on_reaches_to_now() -> None:
    bar = Bar(label="x", status="building", started_at=at(0), ended_at=None, waited_since=None)
    assert drawn([Lane(step="transform", bars=[bar])], now=at(5)).seconds == 5
