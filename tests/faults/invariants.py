"""What is true of a platform that has settled, whatever was killed in it: nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from typing import Final

from libs.contracts.events import WarehousePublished, decode_event, generation_subject
from libs.testing.platform import RunningPlatform
from tests.faults.load import Load

__all__ = [
    "assert_each_acknowledged_event_is_in_raw_and_staging_once",
    "assert_every_step_has_one_audit_row",
    "assert_one_verdict_a_generation",
    "assert_the_pointer_only_moved_on",
]

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


def assert_each_acknowledged_event_is_in_raw_and_staging_once(
    platform: RunningPlatform, prefix: str, load: Load
) -> None:
    landed = platform.rows(
        "SELECT event_id FROM raw.orders_raw WHERE source_order_id LIKE $1 || '-%'", prefix
    )
    assert Counter(row["event_id"] for row in landed) == Counter(load.ids)
    (row,) = platform.ask(
        f"SELECT count(*) AS orders, sum(amount)::VARCHAR AS total FROM staging.orders "
        f"WHERE source_order_id LIKE '{prefix}-%'"
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
