"""kill -9 of each process under load, again and again: nothing lost, nothing twice.

Scope: process crashes, while the disks of Redis and Postgres survive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Final

import pytest

from libs.testing.platform import RunningPlatform, Stores
from libs.testing.waiting import until
from tests.faults.invariants import (
    assert_each_acknowledged_event_is_in_raw_and_staging_once,
    assert_every_step_has_one_audit_row,
    assert_one_verdict_a_generation,
    assert_the_pointer_only_moved_on,
)
from tests.faults.load import PER_REQUEST, Load

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
    assert after.duplicate - before.duplicate <= load.repeated + of_the_generator(victim)
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


def of_the_generator(victim: str) -> int:
    """Events that it may have published twice itself: Redis wrote them, and died before it said so."""
    return VICTIMS[victim] * PER_REQUEST if victim == "redis" else 0


def killed_at_work(platform: RunningPlatform, victim: str) -> None:
    """Kill it while it has something in hand; returns when it is back."""
    part = platform.part(victim)
    pid = part.pid
    assert pid is not None

    async def caught(stores: Stores) -> None:
        await until(lambda: stores.postgres.fetchval(AT_WORK[victim]))
        os.kill(pid, signal.SIGKILL)

    if victim in AT_WORK:
        platform.with_stores(caught)
    else:
        platform.kill(victim)
    platform.await_restart(victim, (part.restarts or 0) + 1)
