"""What docs/backup.md says of the archive: in an empty platform all is the same again."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from libs.operations.ledger import LedgerReport
from libs.testing.builders import an_order_placed, encoded
from libs.testing.platform import RunningPlatform, Stores
from libs.testing.waiting import until
from tests.e2e.documents import blocks_of, shell_environment, typed

pytestmark = pytest.mark.heavy

BLOCKS: Final = blocks_of("docs/backup.md")
COPY, _ = (block for block in BLOCKS if block.heading == "Backup")
RESTORE, REFUSED, AROUND = (
    block for block in BLOCKS if block.heading == "From the archive, into an empty platform"
)
ELSEWHERE: Final = {"From a dump"}
"""Headings whose blocks test_dump.py runs."""
FIGURES: Final = """
SELECT (SELECT count(*) FROM analytics.daily_order_metrics) AS days,
       (SELECT sum(total_amount) FROM analytics.daily_order_metrics)::VARCHAR AS total,
       (SELECT count(*) FROM staging.orders) AS orders,
       (SELECT count(*) FROM staging.orders_rejected) AS rejected
"""
RAW: Final = """
-- one row: all of RAW but what says when and in which batch it landed, and in which trace it came
SELECT count(*) AS rows, md5(string_agg(md5(concat_ws('|', source_system, event_id, event_type, event_time,
    source_order_id, customer_id, amount, order_created_at, raw_payload, subject, dataschema, extensions)), ''
    ORDER BY source_system, event_id)) AS content
FROM raw.orders_raw
"""


class Kept:
    """What was there before all was lost. restored: the platform that took its place."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.ledger: LedgerReport = platform.ledger()
        self.batches: list[dict[str, Any]] = platform.json("batches", "ls")
        self.figures = platform.ask(FIGURES)
        self.raw = platform.rows(RAW)
        self.hashes = hashes(platform)
        self.marts = marts(platform)


def hashes(platform: RunningPlatform) -> tuple[str, str]:
    newest = platform.json("warehouse", "ls")[0]
    assert newest["current"]
    return newest["staging_hash"], newest["analytics_hash"]


def marts(platform: RunningPlatform) -> dict[str, str]:
    """What the newest manifest of a snapshot says of each mart."""
    listed = platform.json(
        "archive", "ls", "--generation", str(platform.json("warehouse", "ls")[0]["number"])
    )
    key = next(row["key"] for row in listed if row["kind"] == "manifest")
    manifest = json.loads(platform.drp("archive", "get", key))
    return {each["key"].rpartition("/")[2]: each["content"] for each in manifest["objects"]}


async def publish_faults(stores: Stores) -> None:
    """A duplicate, a correction, a conflict, a negative amount, an event without its amount, no event, and one that
    is as large as may be."""
    order = an_order_placed()
    corrected = an_order_placed(
        order_id=order["data"]["order_id"], amount="43.50", time="2030-01-01T00:00:00Z"
    )
    conflicting = {**order, "data": {**order["data"], "amount": "1.00"}}
    # the conflict is in an entry of its own, after what it is in conflict with
    for event in (order, order, corrected, conflicting):
        await stores.bus.publish_events("orders", [encoded(event)])
    others = [
        encoded(an_order_placed(amount="-1.00")),
        encoded(an_order_placed(amount=...)),
        b"no event",
        large(),
    ]
    await stores.bus.publish_events("orders", others)


def large() -> bytes:
    """256 KiB, to which the platform adds a time, an origin, a trace and the zeros of a number."""
    order = an_order_placed(amount="1.00")
    order["data"] |= {"padding": "", "wide": msgspec.Raw(b"1e1000")}
    order["data"]["padding"] = "x" * (256 * 1024 - len(encoded(order)))
    return encoded(order)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    platform = RunningPlatform(tmp_path_factory.mktemp("restore") / ".drp")
    yield platform
    platform.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator")


@pytest.fixture(scope="module")
def kept(platform: RunningPlatform, real_orders: Path, folder: Path) -> Kept:
    """A run with every fault, and its bucket copied; then all is lost but the object store."""
    platform.start()
    platform.drp("publish", "--file", str(real_orders))
    platform.with_stores(publish_faults)
    platform.settle()
    kept = Kept(platform)
    assert (kept.ledger.quarantined, kept.ledger.conflicts, kept.ledger.duplicate) == (3, 1, 1)
    assert kept.figures[0]["rejected"] == 1
    environment = shell_environment({**platform.environment, **platform.urls})
    typed(COPY, environment=environment, folder=folder)
    platform.stop()
    for lost in ("postgres", "redis", "warehouse", "traces"):
        shutil.rmtree(platform.home / lost)
    return kept


def test_a_restore_that_is_interrupted_is_begun_again(kept: Kept, platform: RunningPlatform) -> None:
    """From the first bucket, into a platform with one of its own in the same store."""
    platform.environment["DRP_S3_BUCKET"] = "drp-restored"
    platform.start()
    environment = {**platform.environment, "DRP_S3_BUCKET": "drp"}
    command = platform.command("replay", "--from", "archive", "--all", "--yes")
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as replaying:
        platform.with_stores(first_landed)
        replaying.kill()
    platform.settle()
    assert 0 < platform.ledger().accepted <= kept.ledger.accepted
    platform.stop()


async def first_landed(stores: Stores) -> None:
    await until(lambda: stores.postgres.fetchval("SELECT EXISTS (SELECT FROM ops.entries)"))


def test_the_documented_commands_restore_from_a_copy_of_the_archive(
    kept: Kept, platform: RunningPlatform, folder: Path
) -> None:
    """They start the platform, and go on where the interrupted restore left off."""
    environment = shell_environment(platform.environment)
    said = typed(RESTORE, environment=environment, folder=folder)

    assert f"published {kept.ledger.accepted:,} events" in said
    assert "3 refused events stay in the archive" in said
    assert "The ledger balances." in said
    assert "identical, row for row" in said


def test_raw_staging_and_marts_are_the_same_to_the_cent(kept: Kept, platform: RunningPlatform) -> None:
    assert platform.ask(FIGURES) == kept.figures
    assert Decimal(kept.figures[0]["total"]) == Decimal("2500315.63") + Decimal("43.50") + Decimal("1.00")
    assert platform.rows(RAW) == kept.raw
    assert hashes(platform) == kept.hashes
    assert marts(platform) == kept.marts


def test_nothing_is_there_twice(kept: Kept, platform: RunningPlatform) -> None:
    ledger = platform.ledger()
    assert (ledger.accepted, ledger.quarantined, ledger.problems) == (kept.ledger.accepted, 0, [])
    assert 0 < ledger.duplicate <= kept.ledger.accepted
    report = platform.json("archive", "verify")
    assert (report["problems"], report["events"], report["unlisted"]) == ([], kept.ledger.accepted, 0)


def test_what_was_refused_is_still_in_the_archive(
    kept: Kept, platform: RunningPlatform, folder: Path
) -> None:
    environment = shell_environment(platform.environment)
    copied = {**platform.environment, "DRP_S3_BUCKET": "drp-copy"}
    command = platform.command("replay", "--all", "--dry-run", "--json")
    planned = json.loads(subprocess.run(command, env=copied, capture_output=True, check=True).stdout)
    lines: list[dict[str, Any]] = []
    for key in planned["refused_documents"]:
        said = typed(REFUSED, environment=environment, folder=folder, KEY=key)
        assert planned["refused_documents"][0] in said
        lines += [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert len(lines) == planned["refused"] == kept.ledger.quarantined
    assert "conflict" in {line["reason"] for line in lines}
    assert b"no event" in {base64.b64decode(line["original"]) for line in lines}


def test_a_time_is_left_out_of_what_is_restored(kept: Kept, platform: RunningPlatform, folder: Path) -> None:
    """All of it is there already, so nothing lands; what is published is counted."""
    closed = {batch["id"]: datetime.fromisoformat(batch["closed_at"]) for batch in kept.batches}
    before = max(closed.values()).replace(microsecond=0)
    after = before + timedelta(seconds=1)
    left_out = [batch for batch in kept.batches if before <= closed[batch["id"]] < after]
    said = typed(
        AROUND,
        environment=shell_environment(platform.environment),
        folder=folder,
        BEFORE=f"{before:%FT%T}",
        AFTER=f"{after:%FT%T}",
    )
    published = [int(number.replace(",", "")) for number in re.findall(r"published ([\d,]+) event", said)]
    assert len(published) == 2
    assert sum(published) == kept.ledger.accepted - sum(batch["accepted"] for batch in left_out)
    assert 0 < sum(published) < kept.ledger.accepted
    platform.settle()
    assert platform.rows(RAW) == kept.raw


def test_every_block_is_typed_here_or_there() -> None:
    assert {block for block in BLOCKS if block.heading not in ELSEWHERE | {"Backup"}} == {
        RESTORE,
        REFUSED,
        AROUND,
    }
