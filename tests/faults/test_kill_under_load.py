"""kill -9 of each service under load, again and again: nothing lost, nothing twice.

Scope: process crashes, while the disks of Redis and Postgres survive.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from libs.testing.platform import RunningPlatform

pytestmark = pytest.mark.heavy

EVENTS = 30_000


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    running = RunningPlatform(tmp_path_factory.mktemp("faults") / ".drp")
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("victim", ["ingestor", "transformer", "validator", "archiver", "audit"])
def test_a_service_killed_under_load_loses_nothing_and_doubles_nothing(
    platform: RunningPlatform, victim: str, tmp_path: Path
) -> None:
    before = ledger(platform)
    file = tmp_path / f"{victim}.jsonl"
    with file.open("w") as lines:
        for number in range(EVENTS):
            lines.write(json.dumps(an_order(victim, number)) + "\n")
    command = [sys.executable, "-m", "services.cli.app", "publish", "--rate", "10000", "--file", str(file)]
    with subprocess.Popen(command, env=platform.environment, stderr=subprocess.DEVNULL) as publishing:
        restarts = platform.part(victim)["restarts"]
        for _ in range(2):
            platform.kill(victim)
            restarts = restarted(platform, victim, restarts)
        assert publishing.wait(timeout=120) == 0
    platform.settle()

    after = ledger(platform)
    assert after["accepted"] - before["accepted"] == EVENTS
    assert after["duplicate"] == before["duplicate"]
    assert after["unaccounted"] == after["dead_lettered"] == 0
    (row,) = platform.ask(
        f"SELECT count(*) AS orders, sum(amount)::VARCHAR AS total FROM staging.orders "
        f"WHERE source_order_id LIKE '{victim}-%'"
    )
    assert row == {"orders": EVENTS, "total": f"{EVENTS}.00"}


def test_redis_killed_under_load_keeps_what_it_acknowledged(platform: RunningPlatform) -> None:
    before = ledger(platform)
    url = platform.part("generator")["url"]
    acknowledged = 0
    with httpx.Client(trust_env=False, timeout=30) as client:
        for number in range(60):
            if number == 20:
                platform.kill("redis")
            key = {"Idempotency-Key": f"redis-{number}"}
            orders = [an_order(f"redis-{number}", each) for each in range(100)]
            deadline = time.monotonic() + 60
            while client.post(f"{url}/v1/orders", json=orders, headers=key).status_code != 202:
                assert time.monotonic() < deadline, "the generator takes no orders any more"
            acknowledged += len(orders)
    platform.settle()

    after = ledger(platform)
    assert after["accepted"] - before["accepted"] == acknowledged
    assert after["unaccounted"] == 0


def test_postgres_killed_under_load_loses_nothing(platform: RunningPlatform, tmp_path: Path) -> None:
    before = ledger(platform)
    file = tmp_path / "postgres.jsonl"
    file.write_text("".join(json.dumps(an_order("postgres", number)) + "\n" for number in range(EVENTS)))
    command = [sys.executable, "-m", "services.cli.app", "publish", "--rate", "10000", "--file", str(file)]
    with subprocess.Popen(command, env=platform.environment, stderr=subprocess.DEVNULL) as publishing:
        restarts = platform.part("postgres")["restarts"]
        platform.kill("postgres")
        restarted(platform, "postgres", restarts)
        assert publishing.wait(timeout=120) == 0
    platform.settle()

    after = ledger(platform)
    assert after["accepted"] - before["accepted"] == EVENTS
    assert after["unaccounted"] == 0


def an_order(prefix: str, number: int) -> dict[str, str]:
    return {
        "order_id": f"{prefix}-{number}",
        "customer_id": f"C-{number % 100}",
        "amount": "1.00",
        "created_at": "2026-02-01T00:00:00Z",
    }


def ledger(platform: RunningPlatform) -> dict[str, int]:
    (row,) = platform.json("ledger", "verify")
    found: dict[str, int] = row
    return found


def restarted(platform: RunningPlatform, name: str, before: int) -> int:
    """Wait until the supervisor has started it again; how often it has by now."""
    deadline = time.monotonic() + 60
    while (part := platform.part(name))["restarts"] <= before or not part["ready"]:
        assert time.monotonic() < deadline, f"{name} did not come back"
    count: int = part["restarts"]
    return count
