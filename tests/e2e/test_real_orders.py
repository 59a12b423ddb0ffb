"""69,659 orders of a real shop, to the cent: published, published again, replayed, and through every kill."""

from __future__ import annotations

import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from libs.operations.ledger import LedgerReport
from libs.testing.platform import RunningPlatform, Stores
from libs.testing.waiting import until

pytestmark = pytest.mark.heavy

ORDERS: Final = 69_659
FIGURES: Final = """
SELECT count(*) AS days, sum(total_orders)::BIGINT AS orders, sum(total_amount)::VARCHAR AS total,
       min(order_date)::VARCHAR AS first, max(order_date)::VARCHAR AS last,
       (SELECT count(DISTINCT customer_id) FROM staging.orders) AS customers,
       (SELECT count(*) FROM staging.orders WHERE amount = 0) AS free
FROM analytics.daily_order_metrics
"""
FIRST_DAY: Final = """
SELECT total_orders::BIGINT AS orders, total_amount::VARCHAR AS total
FROM analytics.daily_order_metrics WHERE order_date = DATE '1997-01-01'
"""
SERVICES: Final = ("generator", "ingestor", "transformer", "validator", "archiver", "audit")


def assert_the_figures(platform: RunningPlatform) -> None:
    (found,) = platform.ask(FIGURES)
    assert (found["days"], found["orders"], Decimal(found["total"])) == (546, ORDERS, Decimal("2500315.63"))
    assert (found["first"], found["last"]) == ("1997-01-01", "1998-06-30")
    assert (found["customers"], found["free"]) == (23_570, 80)
    (first,) = platform.ask(FIRST_DAY)
    assert (first["orders"], Decimal(first["total"])) == (212, Decimal("7515.35"))


def ledger(platform: RunningPlatform) -> LedgerReport:
    report = platform.ledger()
    assert report.unaccounted == report.in_flight == report.dead_lettered == 0
    assert list(report.problems) == []
    return report


async def first_landed(stores: Stores) -> None:
    await until(lambda: stores.postgres.fetchval("SELECT EXISTS (SELECT FROM ops.entries)"))


def test_they_arrive_while_every_service_is_killed_once(platform: RunningPlatform, real_orders: Path) -> None:
    command = platform.command("publish", "--rate", "7000", "--file", str(real_orders))
    with subprocess.Popen(command, env=platform.environment, stderr=subprocess.DEVNULL) as publishing:
        platform.with_stores(first_landed)
        for name in SERVICES:
            platform.kill(name)
        assert publishing.poll() is None, "all were published before the last was killed: slow the rate down"
        assert publishing.wait(timeout=240) == 0
    platform.settle()

    assert_the_figures(platform)
    report = ledger(platform)
    assert (report.published, report.accepted) == (ORDERS, ORDERS)
    assert all(platform.part(name).restarts for name in SERVICES)


def test_published_twice_they_add_nothing(platform: RunningPlatform, real_orders: Path) -> None:
    platform.drp("publish", "--file", str(real_orders))
    platform.settle()

    assert_the_figures(platform)
    report = ledger(platform)
    assert (report.accepted, report.duplicate) == (ORDERS, ORDERS)


def test_replayed_from_the_archive_they_add_nothing(platform: RunningPlatform) -> None:
    planned = platform.json("replay", "--from", "archive", "--all", "--dry-run", "--yes")
    done = platform.json("replay", "--from", "archive", "--all", "--yes")
    platform.settle()

    assert planned["events"] == done["events"] == ORDERS
    assert_the_figures(platform)
    assert ledger(platform).accepted == ORDERS


def test_replayed_from_raw_they_add_nothing(platform: RunningPlatform) -> None:
    platform.drp("replay", "--from", "raw", "--all", "--yes")
    platform.settle()

    assert_the_figures(platform)
    assert ledger(platform).duplicate == 3 * ORDERS


def test_a_rebuild_from_the_archive_alone_is_identical(platform: RunningPlatform) -> None:
    found = platform.json("replay", "--verify")
    assert found["identical"] is True


def test_the_archive_is_there_byte_for_byte(platform: RunningPlatform) -> None:
    found = platform.json("archive", "verify")
    assert found["problems"] == []
    assert found["objects"] > 0


def test_a_full_rebuild_has_the_same_hashes(platform: RunningPlatform) -> None:
    before = platform.json("warehouse", "ls")[0]
    platform.drp("rebuild", "--full")
    platform.settle()

    after = platform.json("warehouse", "ls")[0]
    assert after["number"] > before["number"]
    assert (after["kind"], after["staging_hash"]) == ("full", before["staging_hash"])
    assert after["analytics_hash"] == before["analytics_hash"]
    assert_the_figures(platform)


def test_a_batch_is_understandable_from_its_trace_and_its_audit_rows(platform: RunningPlatform) -> None:
    batch = next(
        one for one in platform.json("batches", "ls", "--limit", "100") if one["status"] == "published"
    )
    shown = platform.json("batches", "show", batch["id"])
    steps = {row["flow_name"] for row in shown["audit"]}
    assert {"ingest", "transform", "validate", "publish", "archive-raw"} <= steps
    assert all(row["status"] == "success" for row in shown["audit"])

    trace = platform.json("trace", batch["id"])
    assert {"ingestor", "transformer", "validator", "archiver", "audit"} <= {
        step["service"] for step in trace["steps"]
    }
    assert not [step for step in trace["steps"] if step["error"]]


def test_a_second_start_finds_its_data_again_archive_included(platform: RunningPlatform) -> None:
    platform.stop()
    assert platform.json("status", expect=5)["parts"] == []
    platform.start()

    assert_the_figures(platform)
    assert platform.json("archive", "verify")["problems"] == []
    assert ledger(platform).accepted == ORDERS
