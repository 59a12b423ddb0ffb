"""kill -9 of each process under load, again and again: nothing lost, nothing twice.

Scope: process crashes, while the disks of Redis and Postgres survive.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from libs.contracts.events import WarehousePublished, decode_event, generation_subject
from libs.testing.platform import RunningPlatform, Stores
from libs.testing.waiting import until
from tests.faults.load import Load

pytestmark = pytest.mark.heavy

VICTIMS: Final = {
    "generator": 2,
    "ingestor": 2,
    "transformer": 2,
    "validator": 2,
    "archiver": 2,
    "audit": 2,
    "redis": 1,
    "postgres": 1,
}
"""How often each is killed."""

AT_WORK: Final = {
    "ingestor": "SELECT EXISTS (SELECT FROM ops.batches WHERE state = 'open' AND received > 0)",
    "transformer": "SELECT EXISTS (SELECT FROM ops.generations WHERE state = 'building')",
    "validator": "SELECT EXISTS (SELECT FROM ops.generations WHERE state = 'built' AND verdict IS NULL)",
    "archiver": "SELECT EXISTS (SELECT FROM ops.batches WHERE state = 'closed' AND archived_at IS NULL)",
    "audit": """
        SELECT EXISTS (SELECT FROM ops.outbox o WHERE published_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM ops.pipeline_flow_audit a WHERE a.event_id = o.event_id))
    """,
}
"""When a service has something in hand."""

UNHEARD: Final = """
-- one row per event without its audit row
SELECT o.type, o.subject FROM ops.outbox o LEFT JOIN ops.pipeline_flow_audit a USING (event_id)
WHERE a.event_id IS NULL
"""
UNTOLD: Final = """
-- one row per audit row that no event told, and no deadline
SELECT a.flow_name, a.flow_run_id FROM ops.pipeline_flow_audit a LEFT JOIN ops.outbox o USING (event_id)
WHERE o.event_id IS NULL AND a.flow_name <> 'deadline'
"""
TWICE: Final = """
-- one row per step that was recorded more than once
SELECT flow_name, flow_run_id, count(*) FROM ops.pipeline_flow_audit
WHERE status = 'success' GROUP BY flow_name, flow_run_id HAVING count(*) > 1
"""
STEPS: Final = ("ingest", "transform", "validate", "publish", "archive-raw")
STEPLESS: Final = """
-- one row per published batch and step that it has no audit row of
SELECT b.id, step FROM ops.batches b CROSS JOIN unnest($1::text[]) AS step
WHERE b.generation IS NOT NULL AND NOT EXISTS (
    SELECT FROM ops.pipeline_flow_audit a
    WHERE a.flow_name = step AND a.status = 'success' AND a.metadata -> 'batches' ? b.id::text)
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    running = RunningPlatform(tmp_path_factory.mktemp("faults") / ".drp")
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_under_load_nothing_is_lost_and_nothing_doubled(
    platform: RunningPlatform, victim: str
) -> None:
    before = platform.ledger()
    with Load(platform, victim) as load:
        load.goes_on()
        for _ in range(VICTIMS[victim]):
            killed_at_work(platform, victim)
            load.goes_on()
    platform.settle()

    after = platform.ledger()
    assert after.accepted - before.accepted == len(load.ids)
    assert after.duplicate - before.duplicate <= load.repeated
    assert (after.quarantined, after.dead_lettered, after.unaccounted, after.in_flight) == (0, 0, 0, 0)
    assert list(after.problems) == []
    if victim not in ("generator", "redis"):
        assert load.repeated == 0, "a producer notices nobody else's death"
    assert_each_acknowledged_event_is_in_raw_and_staging_once(platform, victim, load)
    assert_one_verdict_a_generation(platform)
    assert_the_pointer_only_moved_on(platform)
    assert_every_step_has_one_audit_row(platform)
    if victim == "archiver":
        assert platform.json("archive", "verify")["problems"] == []


def killed_at_work(platform: RunningPlatform, victim: str) -> None:
    """Kill it while it has something in hand; returns when it is back."""
    part = platform.part(victim)
    pid = part.pid
    assert pid is not None

    async def caught(stores: Stores) -> None:
        await until(lambda: stores.postgres.fetchval(AT_WORK[victim]), timeout=60)
        os.kill(pid, signal.SIGKILL)

    if victim in AT_WORK:
        platform.with_stores(caught)
    else:
        platform.kill(victim)
    platform.await_restart(victim, (part.restarts or 0) + 1)


def assert_each_acknowledged_event_is_in_raw_and_staging_once(
    platform: RunningPlatform, victim: str, load: Load
) -> None:
    landed = platform.rows(
        "SELECT event_id FROM raw.orders_raw WHERE source_order_id LIKE $1 || '-%'", victim
    )
    assert Counter(row["event_id"] for row in landed) == Counter(load.ids)
    (row,) = platform.ask(
        f"SELECT count(*) AS orders, sum(amount)::VARCHAR AS total FROM staging.orders "
        f"WHERE source_order_id LIKE '{victim}-%'"
    )
    assert row == {"orders": len(load.ids), "total": f"{len(load.ids)}.00"}


def assert_one_verdict_a_generation(platform: RunningPlatform) -> None:
    judged = platform.rows("SELECT number FROM ops.generations WHERE verdict IS NOT NULL")
    told = platform.rows("SELECT subject FROM ops.outbox WHERE type LIKE 'quality.%'")
    assert Counter(row["subject"] for row in told) == Counter(
        generation_subject(row["number"]) for row in judged
    )


def assert_the_pointer_only_moved_on(platform: RunningPlatform) -> None:
    """Every publication is one step further, and the last one is what readers open."""
    told = platform.rows("SELECT document FROM ops.outbox WHERE type = 'warehouse.published' ORDER BY id")
    published = [
        event for row in told if isinstance(event := decode_event(row["document"])[1], WarehousePublished)
    ]
    assert [event.version for event in published] == list(range(1, len(told) + 1))
    numbers = [event.generation for event in published]
    assert numbers == sorted(set(numbers))
    (row,) = platform.rows(
        "SELECT p.version, p.generation, g.file FROM ops.warehouse_pointer p "
        "JOIN ops.generations g ON g.number = p.generation"
    )
    assert (row["version"], row["generation"]) == (len(published), numbers[-1])
    link = platform.home / "warehouse" / "orders" / "current.duckdb"
    assert str(link.readlink()) == row["file"]


def assert_every_step_has_one_audit_row(platform: RunningPlatform) -> None:
    for wrong in (UNHEARD, UNTOLD, TWICE):
        assert platform.rows(wrong) == []
    assert platform.rows(STEPLESS, list(STEPS)) == []
