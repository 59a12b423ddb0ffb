"""The stages of the flow, and the map that is drawn of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from libs.contracts.streams import DATASET_GROUPS, GROUPS
from libs.operations.ledger import LedgerReport
from services.console.domain.flow import MAP_HEIGHT, MAP_WIDTH, PLACES, Backlog, flow_map, stages
from services.console.domain.identity import identity, map_counts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_flow(name: str, **values: Any) -> dict[str, Any]:
    return {
        "flow_name": name,
        "runs": 3,
        "failed": 0,
        "p50_seconds": 0.2,
        "p95_seconds": 0.5,
        "records_in_5_minutes": 0,
        "last_run_at": NOW,
        "last_failed_at": None,
        "last_error": None,
    } | values


def a_backlog(
    group: str,
    stream: str = "orders",
    *,
    pending: int = 0,
    unread: int | None = 0,
    oldest_pending: float | None = None,
) -> Backlog:
    return Backlog(stream=stream, group=group, pending=pending, unread=unread, oldest_pending=oldest_pending)


def a_report(**values: Any) -> LedgerReport:
    counts = {each.name: 0 for each in msgspec.structs.fields(LedgerReport) if each.type is int}
    return msgspec.convert({**counts, "problems": [], **values}, LedgerReport)


def state_of(step: str, flows: list[dict[str, Any]], backlogs: list[Backlog] | None) -> str:
    return next(stage.state for stage in stages(flows, backlogs) if stage.step == step)


def test_every_declared_group_is_of_a_stage() -> None:
    declared = {(stream, group) for stream, groups in GROUPS.items() for group in groups}
    declared |= {("orders", group) for group in DATASET_GROUPS}
    backlogs = [a_backlog(group, stream, pending=1) for stream, group in declared]
    found = {(one.stream, one.group) for stage in stages([], backlogs) for one in stage.backlogs}
    assert found == declared


def test_what_waits_is_what_is_in_hand_and_what_was_not_read() -> None:
    (ingest, *_) = stages([], [a_backlog("ingestor", pending=2, unread=5, oldest_pending=1.5)])
    assert (ingest.waiting, ingest.oldest_pending, ingest.state) == (7, 1.5, "working")


def test_without_postgres_nobody_is_called_idle_and_no_run_is_counted() -> None:
    found = stages(None, [a_backlog("ingestor", pending=1, oldest_pending=99.0)])
    assert [stage.state for stage in found] == ["behind", *["unknown"] * 5]
    assert {(stage.runs, stage.failed, stage.records_per_second) for stage in found} == {(None, None, None)}
    counts = map_counts(None, None, found, None)
    assert (counts["verdicts"], counts["steps"]) == (None, None)


def test_where_redis_cannot_tell_it_is_unknown_and_no_number_is_made_up() -> None:
    (ingest, *_) = stages([], [a_backlog("ingestor", pending=2, unread=None)])
    assert (ingest.waiting, ingest.state) == (None, "unknown")
    assert {stage.state for stage in stages([], None)} == {"unknown"}


@pytest.mark.parametrize(
    ("flow", "backlog", "state"),
    [
        (a_flow("ingest"), a_backlog("ingestor"), "idle"),
        (a_flow("ingest", records_in_5_minutes=10), a_backlog("ingestor"), "working"),
        (a_flow("ingest"), a_backlog("ingestor", pending=1, oldest_pending=31.0), "behind"),
        (a_flow("ingest", last_failed_at=NOW, last_error="no"), a_backlog("ingestor"), "failing"),
        (
            a_flow("ingest", last_failed_at=NOW - timedelta(minutes=1), last_error="no"),
            a_backlog("ingestor"),
            "idle",
        ),
    ],
)
def test_a_state_is_the_worst_that_is_so_now(flow: dict[str, Any], backlog: Backlog, state: str) -> None:
    assert state_of("ingest", [flow], [backlog]) == state


def test_a_gate_that_stopped_a_batch_is_blocked_and_not_broken() -> None:
    assert state_of("gate", [a_flow("validate", last_failed_at=NOW, last_error="30 %")], []) == "blocked"


def test_what_the_audit_finds_late_is_no_failure_of_its_own() -> None:
    late = a_flow("deadline", failed=1, last_failed_at=NOW, last_error="late", p95_seconds=301.0)
    audit = stages([late, a_flow("ingest", runs=4)], [])[-1]
    assert (audit.state, audit.failed, audit.p95, audit.runs) == ("idle", 0, None, 7)


def test_a_rate_is_of_the_last_five_minutes() -> None:
    (ingest, *_) = stages([a_flow("ingest", records_in_5_minutes=600)], [])
    assert ingest.records_per_second == 2.0


def test_the_map_has_a_station_for_every_stage_within_its_bounds() -> None:
    drawn = flow_map(stages([], None), {})
    assert [one.title for one in drawn.stations] == ["published", *[place.step for place in PLACES]]
    assert all(0 < one.x < MAP_WIDTH and 0 < one.y < MAP_HEIGHT for one in drawn.stations)
    places = [(one.x, one.y) for one in drawn.stations]
    assert len(set(places)) == len(places)


def test_what_is_not_known_is_not_written_as_a_number() -> None:
    drawn = flow_map(stages([], None), map_counts(None, None, stages([], None), None))
    assert {one.count for one in drawn.stations} == {None, 0}
    assert next(one for one in drawn.lines if one.label == "refused").count is None


def test_without_the_streams_the_sums_are_what_the_batches_say() -> None:
    rows = [{"accepted": 3, "duplicate": 1, "quarantined": 2, "dead_lettered": 0}]
    sums = identity(None, rows)
    assert sums is not None
    assert (sums.accepted, sums.published, sums.unaccounted) == (3, None, None)
    assert identity(None, None) is None


def test_a_dataset_that_is_not_counted_leaves_the_sum_unknown_and_its_events_in_it() -> None:
    rows = [
        {"dataset": name, "accepted": 3, "duplicate": 0, "quarantined": 1, "dead_lettered": 0}
        for name in ("orders", "payments")
    ]
    orders = a_report(dataset="orders", published=4, accepted=3, quarantined=1)
    sums = identity([orders], rows)
    assert sums is not None
    assert (sums.published, sums.unaccounted, sums.accepted, sums.quarantined) == (None, None, 6, 2)
    assert sums.problems == ["dataset payments is not among the console's: its stream was not counted"]
    whole = identity([orders], rows[:1])
    assert whole is not None
    assert (whole.published, whole.unaccounted, whole.problems) == (4, 0, [])
