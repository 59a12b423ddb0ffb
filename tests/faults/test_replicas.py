"""Three replicas of every consumer, then two: the work is shared, one publishes at a time, nothing is done twice.

One replica of each kind is killed in the midst of its work; then all three at once, for good. The two tests go on
from each other, on the data of one platform.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest

from libs.runtime.home import Home, State
from libs.runtime.processes import Process, wait_for_end
from libs.runtime.status import status
from libs.testing.platform import RunningPlatform, Stores
from libs.testing.waiting import until
from tests.faults.invariants import (
    assert_each_acknowledged_event_is_in_raw_and_staging_once,
    assert_every_step_has_one_audit_row,
    assert_one_verdict_a_generation,
    assert_the_pointer_only_moved_on,
)
from tests.faults.load import Load
from tests.faults.webhook import Webhook

pytestmark = pytest.mark.heavy

REAL_ORDERS: Final = Path(__file__).parents[1] / "data" / "cdnow_orders.csv.gz"
CONSUMERS: Final = ("ingestor", "transformer", "validator", "archiver", "audit")
BREATH: Final = 0.3
"""Seconds between two requests: sixteen processes want the processors, too."""
RUNS: Final = 3
GENERATED: Final = 1_000
FAULTS: Final = {"duplicate": 0.02, "conflict": 0.01, "out_of_order": 0.02, "malformed": 0.01}
"""None that the gate weighs by its share: what a batch of three ingestors holds may be little."""

AT_WORK: Final = {
    "ingestor": "SELECT opened_by FROM ops.batches WHERE state = 'open' AND received > 0 LIMIT 1",
    "transformer": "SELECT split_part(holder, '/', 1) FROM ops.generations WHERE state = 'building'",
    "validator": "SELECT 'validator-2' FROM ops.generations WHERE state = 'built' AND verdict IS NULL",
    "archiver": "SELECT 'archiver-2' FROM ops.batches WHERE state = 'closed' AND archived_at IS NULL LIMIT 1",
    "audit": """
        SELECT 'audit-2' FROM ops.outbox o WHERE published_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM ops.pipeline_flow_audit a WHERE a.event_id = o.event_id) LIMIT 1
    """,
}
"""The consumer to kill, once one of its kind has something in hand."""

SHARES: Final = """
-- one row per ingestor: how many orders, of those whose ids begin so, stand in batches that it filled
SELECT b.opened_by, count(*) AS orders
FROM raw.orders_raw r JOIN ops.batches b ON b.id = r.batch_id
WHERE r.source_order_id LIKE $1 || '-%' AND b.state = 'closed' GROUP BY b.opened_by
"""
OVERLAPPING: Final = """
-- one row per candidate that was begun before the one before it had come to its end
SELECT number FROM (
    SELECT number, started_at, lag(CASE state WHEN 'abandoned' THEN lease_until WHEN 'blocked' THEN verdict_at
                                   ELSE published_at END) OVER (ORDER BY started_at) AS ended
    FROM ops.generations) candidates
WHERE started_at < ended
"""
NOT_APPLIED_ONCE: Final = """
-- one row per batch with rows that not exactly one published generation applied
SELECT b.id, count(g.number) FROM ops.batches b
LEFT JOIN ops.generation_batches gb ON gb.batch_id = b.id
LEFT JOIN ops.generations g ON g.number = gb.generation AND g.published_at IS NOT NULL
WHERE b.accepted > 0 AND b.held_at IS NULL GROUP BY b.id HAVING count(g.number) <> 1
"""
ARCHIVED_TWICE: Final = """
-- one row per batch or generation that was told to be archived more than once
SELECT subject, count(*) FROM ops.outbox WHERE type = 'archive.stored' GROUP BY subject HAVING count(*) > 1
"""
FIGURES: Final = """
SELECT count(*) AS days, sum(total_orders)::BIGINT AS orders, sum(total_amount)::VARCHAR AS total
FROM analytics.daily_order_metrics WHERE order_date < DATE '2000-01-01'
"""


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    with Webhook() as opened:
        yield opened


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, webhook: Webhook) -> Iterator[RunningPlatform]:
    settings = {
        "DRP_ALERT_WEBHOOK_URL": webhook.url,
        "DRP_NICENESS": "0",
        "DRP_SCALE": ",".join(f"{name}=3" for name in CONSUMERS),
    }
    running = RunningPlatform(tmp_path_factory.mktemp("replicas") / ".drp", settings)
    running.start()
    yield running
    running.stop()


def test_of_three_replicas_each_has_its_share_and_one_of_each_kind_may_die(platform: RunningPlatform) -> None:
    replicas = {f"{name}{end}" for name in CONSUMERS for end in ("", "-2", "-3")}
    assert names_of(platform) == {"generator", "console", *replicas}
    platform.drp("publish", "--file", str(REAL_ORDERS))
    with Load(platform, "three", breath=BREATH) as load:
        made = generated(platform)
        killed = platform.with_stores(partial(one_of_each_is_killed, platform))
        shared_among(platform, "three", 3)
    for name in killed:
        platform.await_restart(name, 1)
    platform.settle()

    ledger = platform.ledger()
    faulty = made["duplicate"] + made["conflict"] + made["malformed"]
    assert ledger.accepted == 69_659 + RUNS * GENERATED - faulty + len(load.ids)
    # Of an event and its conflict whichever came first was accepted: with several ingestors either may be.
    assert ledger.duplicate + ledger.quarantined == faulty
    assert ledger.quarantined >= made["conflict"] + made["malformed"]
    assert load.repeated == 0, "a producer notices nobody's death"
    assert_each_acknowledged_event_is_in_raw_and_staging_once(platform, "three", load)
    assert_nothing_was_done_twice(platform)


def test_with_two_left_nothing_is_stranded_and_each_thing_is_done_once(
    platform: RunningPlatform, webhook: Webhook
) -> None:
    before = platform.ledger()
    with Load(platform, "stranded", breath=BREATH) as stranded:
        stranded.goes_on()
        platform.with_stores(partial(paused_with_entries_in_hand, platform, consumer="ingestor-3"))
    everything_dies(platform, paused="ingestor-3")
    platform.drp("up", "--detach", *(each for name in CONSUMERS for each in ("--scale", f"{name}=2")))
    assert not [name for name in names_of(platform) if name.endswith("-3")]
    platform.settle()
    assert platform.ledger().accepted - before.accepted == len(stranded.ids)
    objects, puts = archived(platform), puts_of(platform)

    with Load(platform, "two", breath=BREATH) as load:
        shared_among(platform, "two", 2)
    platform.settle()
    assert_each_acknowledged_event_is_in_raw_and_staging_once(platform, "stranded", stranded)
    assert_each_acknowledged_event_is_in_raw_and_staging_once(platform, "two", load)
    assert_nothing_was_done_twice(platform)
    assert platform.json("archive", "verify")["problems"] == []
    assert puts_of(platform) - puts == Counter(stored=archived(platform) - objects)

    planted(platform)
    platform.settle(expect=3)
    asyncio.run(until(lambda: webhook.keys))
    told = platform.rows("SELECT dedupe_key, state, attempts FROM ops.alerts")
    assert len(told) == 1, "of the blocked generation"
    assert Counter(webhook.keys) == Counter(row["dedupe_key"] for row in told)
    assert {(row["state"], row["attempts"]) for row in told} == {("sent", 1)}


def state_of(platform: RunningPlatform) -> State:
    state = Home(platform.home).running()
    assert state is not None
    return state


def names_of(platform: RunningPlatform) -> set[str]:
    """Of the services, as `drp status` tells them."""
    return {part.name for part in status(platform.home).parts if part.kind == "service"}


def generated(platform: RunningPlatform) -> Counter[str]:
    """Made-up orders with known faults; how many there are of each kind."""
    made: Counter[str] = Counter()
    with httpx.Client(base_url=platform.urls["DRP_GENERATOR_URL"], trust_env=False, timeout=240) as client:
        for seed in range(RUNS):
            run = {"count": GENERATED, "faults": FAULTS, "seed": seed}
            made.update(client.post("/v1/runs", json=run).raise_for_status().json()["made"])
    return made


def planted(platform: RunningPlatform) -> None:
    """More negative amounts than the gate lets pass."""
    orders = [
        {"order_id": f"N-{n}", "customer_id": "C-1", "amount": "-1.00", "created_at": "2026-02-01T00:00:00Z"}
        for n in range(200)
    ]
    url = platform.urls["DRP_GENERATOR_URL"] + "/v1/orders"
    httpx.post(url, json=orders, trust_env=False, timeout=240).raise_for_status()


async def one_of_each_is_killed(platform: RunningPlatform, stores: Stores) -> list[str]:
    """kill -9 a replica of each kind while it, or one of its kind, has something in hand; their names."""
    processes = {name: process_of(platform, name) for name in names_of(platform)}
    killed = []
    for kind in CONSUMERS:
        consumer = await until(partial(stores.postgres.fetchval, AT_WORK[kind]))
        name = consumer.removesuffix("-1")
        processes[name].send(signal.SIGKILL)
        killed.append(name)
    return killed


async def in_hand(stores: Stores, consumer: str) -> bool:
    """Whether entries were delivered to the consumer and not acknowledged."""
    groups = await stores.bus._client.xinfo_consumers("orders", "ingestor")
    return any(each["name"].decode() == consumer and each["pending"] for each in groups)


async def paused_with_entries_in_hand(platform: RunningPlatform, stores: Stores, *, consumer: str) -> None:
    """Stop a replica between the delivery of entries and their acknowledgement."""
    replica = process_of(platform, consumer)

    async def caught() -> bool:
        replica.send(signal.SIGSTOP)
        # Asked twice: an acknowledgement that was on its way has arrived by then.
        if await in_hand(stores, consumer) and await in_hand(stores, consumer):
            return True
        replica.send(signal.SIGCONT)
        return False

    await until(caught, every=0.005)


def everything_dies(platform: RunningPlatform, *, paused: str) -> None:
    """kill -9 of the supervisor, with which the kernel ends its processes, and of the one that can't be asked."""
    state = state_of(platform)
    replica = process_of(platform, paused)
    state.supervisor.send(signal.SIGKILL)
    replica.send(signal.SIGKILL)
    assert wait_for_end([part.process for part in state.parts if part.process is not None], timeout=240)


def process_of(platform: RunningPlatform, name: str) -> Process:
    process = next(part.process for part in state_of(platform).parts if part.name == name)
    assert process is not None
    return process


def shared_among(platform: RunningPlatform, prefix: str, replicas: int) -> None:
    """Wait, under load, until each of the ingestors has a fair share of the orders: a quarter of an equal one."""

    async def fair(stores: Stores) -> None:
        async def is_fair() -> bool:
            found = {row["opened_by"]: row["orders"] for row in await stores.postgres.fetch(SHARES, prefix)}
            return len(found) == replicas and min(found.values()) >= sum(found.values()) / replicas / 4

        await until(is_fair, every=0.2)

    platform.with_stores(fair)


def assert_nothing_was_done_twice(platform: RunningPlatform) -> None:
    for wrong in (OVERLAPPING, NOT_APPLIED_ONCE, ARCHIVED_TWICE):
        assert platform.rows(wrong) == []
    assert_one_verdict_a_generation(platform)
    assert_the_pointer_only_moved_on(platform)
    assert_every_step_has_one_audit_row(platform)
    (figures,) = platform.ask(FIGURES)
    assert (figures["days"], figures["orders"], Decimal(figures["total"])) == (
        546,
        69_659,
        Decimal("2500315.63"),
    )
    ledger = platform.ledger()
    assert (ledger.dead_lettered, ledger.unaccounted, ledger.in_flight, list(ledger.problems)) == (
        0,
        0,
        0,
        [],
    )


def archived(platform: RunningPlatform) -> int:
    (row,) = platform.rows("SELECT count(*) AS objects FROM ops.archive_objects")
    return int(row["objects"])


def puts_of(platform: RunningPlatform) -> Counter[str]:
    """How often the living archivers put an object, by what came of it."""
    found: Counter[str] = Counter()
    for part in state_of(platform).parts:
        if part.name.startswith("archiver"):
            metrics = httpx.get(f"{part.url}/metrics", trust_env=False).text
            for outcome, puts in re.findall(
                r'^drp_archive_objects_total\{.*outcome="(\w+)"\} ([\d.]+)', metrics, re.MULTILINE
            ):
                found[outcome] += int(float(puts))
    return found
