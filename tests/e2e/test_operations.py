"""What docs/operations.md tells operators to type works as it stands there, with the trouble it is meant for."""

from __future__ import annotations

import asyncio
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import boto3  # type: ignore[import-untyped]  # published without types
import pytest

from libs.testing.builders import an_order_placed, encoded
from libs.testing.platform import RunningPlatform, Stores
from libs.testing.waiting import until
from tests.e2e.conftest import Start
from tests.e2e.documents import ROOT, Block, blocks_of, shell_environment, typed

pytestmark = pytest.mark.heavy

BLOCKS: Final = blocks_of("docs/operations.md")
TOLD: Final = {"archive verify finds damage"}
"""Headings whose later blocks are typed into a shell that has heard `drp env`."""

COLUMNS: Final = "order_id,customer_id,amount,created_at\n"
ORDERS: Final = """\
A-1,C-1,10.50,2026-01-05T09:30:00Z
A-2,C-1,20.25,2026-01-05T09:31:00Z
A-4,C-2,ten,2026-01-06T00:00:00Z
A-5,C-2,,2026-01-06T00:00:00Z
"""


class Operator:
    """Somebody with the document at the platform. typed: the blocks that were run."""

    def __init__(self, platform: RunningPlatform, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        self.typed: set[Block] = set()

    def types(
        self,
        heading: str,
        number: int = 0,
        *,
        expect: Sequence[int] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> str:
        """What the block of that number under the heading says."""
        block = [each for each in BLOCKS if each.heading == heading][number]
        self.typed.add(block)
        environment = shell_environment(self.platform.environment)
        if block.heading in TOLD:
            environment |= self.platform.urls
        return typed(block, environment=environment, folder=self.folder, expect=expect, **names or {})

    def publishes(self, rows: str) -> None:
        file = self.folder / "orders.csv"
        file.write_text(COLUMNS + rows)
        self.platform.drp("publish", "--file", str(file))

    def batch(self, condition: str) -> str:
        (row,) = self.platform.rows(f"SELECT id FROM ops.batch_status WHERE {condition}")
        return str(row["id"])

    def blocked(self) -> dict[str, str]:
        """The batch that is blocked, and the generation that it is blocked in."""
        self.platform.settle(expect=3)
        rows = self.platform.rows("SELECT id, last_generation FROM ops.batch_status WHERE status = 'blocked'")
        return {"BATCH": str(rows[0]["id"]), "GENERATION": str(rows[0]["last_generation"])}

    def until_there(self, sql: str) -> None:
        async def wait(stores: Stores) -> None:
            await until(lambda: stores.postgres.fetchval(f"SELECT EXISTS ({sql})"), every=0.2)

        self.platform.with_stores(wait)


@pytest.fixture(scope="module")
def operator(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    platform = start(DRP_BATCH_DEADLINE="5", DRP_STREAM_LIMIT="3")
    operator = Operator(platform, tmp_path_factory.mktemp("operator"))
    operator.publishes(ORDERS)
    platform.settle()
    return operator


def test_a_first_look(operator: Operator) -> None:
    said = operator.types("First look", expect=[3, 0, 0, 0, 0])
    assert "quarantined" in said
    assert "transformer" in said
    assert "The ledger balances." in said
    assert "published" in said


def test_a_batch_that_gets_stuck_is_found_and_got_going(operator: Operator) -> None:
    with operator.platform.hanging("transformer"):
        operator.publishes("S-1,C-1,1.00,2026-01-07T00:00:00Z\n")
        operator.until_there("SELECT FROM ops.batch_status WHERE status = 'closed'")
        said = operator.types("Nothing arrives in the mart", expect=[3, 0, 0, 0])
        assert "closed" in said

        batch = operator.batch("status = 'closed'")
        operator.until_there(f"SELECT FROM ops.alerts WHERE flow_run_id LIKE '%{batch}%'")
        said = operator.types(
            "A batch is stuck, or past its deadline", expect=[3, 0, 0, 0], names={"BATCH": batch}
        )
        assert "deadline" in said
    operator.types("A batch is stuck, or past its deadline", 1)
    assert operator.batch("status = 'published' AND generation = last_generation AND id = '" + batch + "'")


@pytest.mark.parametrize(("order", "where"), [("A-2", "20.25"), ("A-4", "wrong_type")])
def test_an_order_is_found_wherever_it_is(operator: Operator, order: str, where: str) -> None:
    said = operator.types("One order is missing, or is not what was sent", names={"ORDER": order})
    assert where in said


def test_a_blocked_batch_is_held_corrected_and_put_back(operator: Operator) -> None:
    operator.publishes("N-1,C-9,-1.00,2026-01-07T00:00:00Z\n")
    names = operator.blocked()
    said = operator.types("A batch is blocked", 0, names=names)
    assert "amount_not_negative" in said

    operator.types("A batch is blocked", 1, names=names)
    assert operator.batch("status = 'held'") == names["BATCH"]
    operator.publishes("N-1,C-9,1.00,2026-01-07T01:00:00Z\n")
    operator.platform.settle()
    operator.types("A batch is blocked", 2, names=names)
    (row,) = operator.platform.ask(
        "SELECT amount::VARCHAR AS n FROM staging.orders WHERE source_order_id = 'N-1'"
    )
    assert row["n"] == "1.00"


def test_a_blocked_batch_is_accepted(operator: Operator) -> None:
    operator.publishes("N-2,C-9,-1.00,2026-01-07T00:00:00Z\n")
    operator.types("A batch is blocked", 3, names=operator.blocked())
    assert operator.platform.ask("SELECT 1 FROM staging.orders_rejected WHERE source_order_id = 'N-2'")


def test_late_events_are_judged(operator: Operator) -> None:
    async def publish(stores: Stores) -> None:
        await stores.bus.publish_events("orders", [encoded(an_order_placed(time="2020-01-01T00:00:00Z"))])

    operator.platform.with_stores(publish)
    names = operator.blocked()
    said = operator.types("Freshness is late, a producer's clock is wrong", names=names)
    assert re.search(r"freshness +freshness +fail", said), said
    operator.platform.drp("quality", "accept", names["GENERATION"], "--reason", "a test", "--yes")
    operator.platform.settle()


def test_lag_is_seen_and_producers_are_told_to_wait(operator: Operator) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("no redis-cli on PATH: the look at lag is NOT tested (apt-get install redis-tools)")

    async def fill(stores: Stores) -> None:
        for _ in range(4):
            await stores.bus.publish_events("orders", [encoded(an_order_placed())])

    def refused() -> bool:
        url = operator.platform.urls["DRP_GENERATOR_URL"] + "/v1/orders"
        body = b'{"order_id":"L-1","customer_id":"C-1","amount":"5.00","created_at":"2026-01-05T09:31:00Z"}'
        asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - our own server
        try:
            urllib.request.urlopen(asked, timeout=10).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                return error.code == 503 and "Retry-After" in error.headers
        return False

    with operator.platform.hanging("ingestor"):
        operator.platform.with_stores(fill)
        asyncio.run(until(refused))
        said = operator.types("Lag grows, producers get 503", expect=[0, 3, 0, 0])
        assert "ingestor" in said
        assert "lag" in said
    operator.platform.settle()
    assert operator.platform.ledger().problems == []


def test_what_is_quarantined_is_fixed_or_put_away(operator: Operator) -> None:
    rows = operator.platform.rows("SELECT id, reason FROM raw.quarantine")
    number = {row["reason"]: str(row["id"]) for row in rows}
    said = operator.types("Quarantine grows", 0, names={"NUMBER": number["wrong_type"]})
    assert '"amount":"ten"' in said

    operator.types("Quarantine grows", 1, names={"NUMBER": number["wrong_type"]})
    fixed = operator.platform.ask(
        "SELECT amount::VARCHAR AS n FROM staging.orders WHERE source_order_id = 'A-4'"
    )
    assert fixed == [{"n": "10.00"}]
    operator.types("Quarantine grows", 3, names={"NUMBER": number["field_missing"]})
    states = operator.platform.rows("SELECT reason, state FROM raw.quarantine")
    assert {row["reason"]: row["state"] for row in states} == {
        "wrong_type": "redriven",
        "field_missing": "open",
    }


def test_many_that_were_fixed_go_at_once(operator: Operator) -> None:
    operator.publishes("A-6,C-2,six,2026-01-06T00:00:00Z\nA-7,C-2,seven,2026-01-06T00:00:00Z\n")
    operator.platform.settle()
    rows = operator.platform.rows(
        "SELECT id FROM raw.quarantine WHERE reason = 'wrong_type' AND state = 'open'"
    )
    for row in rows:
        operator.platform.drp(
            "quarantine", "fix", str(row["id"]), "--set", "amount=1.00", "--because", "a test", "--yes"
        )
    said = operator.types("Quarantine grows", 2, names={"CODE": "wrong_type"})
    assert "2 events" in said
    assert operator.platform.ask(
        "SELECT source_order_id AS n FROM staging.orders WHERE source_order_id IN ('A-6', 'A-7') ORDER BY 1"
    ) == [{"n": "A-6"}, {"n": "A-7"}]


def test_a_restart_is_counted_and_its_log_is_there(operator: Operator) -> None:
    operator.platform.kill("ingestor")
    operator.platform.await_restart("ingestor", 1)
    said = operator.types("A service restarts again and again")
    assert "ingestor is ready" in said


def test_a_server_that_is_away_is_named(operator: Operator) -> None:
    with operator.platform.hanging("redis"):
        said = operator.types("A server is away", expect=[3, 3])
        assert "not guaranteed" in said
    asyncio.run(until(lambda: operator.platform.run("status").returncode == 0))


def test_the_disk_is_looked_at(operator: Operator) -> None:
    said = operator.types("The disk is full")
    assert "warehouse" in said
    assert "GiB free" in said


def test_a_ledger_that_does_not_balance_names_the_batch(operator: Operator) -> None:
    (row,) = operator.platform.rows("SELECT batch_id FROM raw.orders_raw WHERE source_order_id = 'A-2'")
    operator.platform.rows(
        "CREATE TABLE raw.taken AS SELECT * FROM raw.orders_raw WHERE source_order_id = 'A-2'"
    )
    operator.platform.rows("DELETE FROM raw.orders_raw WHERE source_order_id = 'A-2'")
    said = operator.types("The ledger doesn't balance", expect=[3])
    assert str(row["batch_id"]) in said
    operator.platform.rows("INSERT INTO raw.orders_raw OVERRIDING SYSTEM VALUE SELECT * FROM raw.taken")
    operator.platform.rows("DROP TABLE raw.taken")
    assert operator.platform.ledger().problems == []


def test_a_damaged_archive_is_found_and_mended(operator: Operator) -> None:
    urls = operator.platform.urls
    (row,) = operator.platform.rows(
        "SELECT key, batch_id FROM ops.archive_objects WHERE kind = 'quarantine' ORDER BY stored_at LIMIT 1"
    )
    boto3.client(
        "s3",
        endpoint_url=urls["DRP_S3_ENDPOINT_URL"],
        region_name=urls["DRP_S3_REGION"],
        aws_access_key_id=urls["DRP_S3_ACCESS_KEY"],
        aws_secret_access_key=urls["DRP_S3_SECRET_KEY"],
    ).put_object(Bucket=urls["DRP_S3_BUCKET"], Key=row["key"], Body=b"damaged")
    names = {"BATCH": str(row["batch_id"]), "KEY": row["key"]}

    said = operator.types("archive verify finds damage", 0, expect=[3, 0, 0], names=names)
    assert row["key"] in said
    operator.types("archive verify finds damage", 1, names=names)
    said = operator.types("archive verify finds damage", 2, names=names)
    assert "byte for byte" in said


def test_readers_go_back_and_on_again(operator: Operator) -> None:
    current = operator.platform.json("warehouse", "ls")[0]["number"]
    said = operator.types("Readers must go back, or went back by mistake", 0)
    assert "wrong prices since noon" in said
    said = operator.types("Readers see old data")
    assert "rolled back to" in said
    operator.types("Readers must go back, or went back by mistake", 1)
    assert operator.platform.json("warehouse", "ls")[0]["number"] > current


def test_alerts_that_reach_nobody_are_known(operator: Operator) -> None:
    said = operator.types("Alerts reach nobody", expect=[3, 0])
    assert "DRP_ALERT_WEBHOOK_URL" in said


def test_a_wrong_contract_is_told_by_file_and_line(operator: Operator) -> None:
    folder = operator.folder / "orders"
    shutil.copytree(ROOT / "libs" / "datasets" / "orders", folder)
    contract = folder / "contract.yaml"
    contract.write_text(contract.read_text().replace("logicalType: number", "logicalType: money", 1))
    said = operator.types(
        "A service refuses to start: the contract is wrong", expect=[3], names={"FOLDER": str(folder)}
    )
    assert "contract.yaml:" in said


def test_it_is_stopped_with_nothing_on_its_way_and_started_again(operator: Operator) -> None:
    before = operator.platform.ask("SELECT count(*) AS orders FROM staging.orders")
    operator.types("Stopping for maintenance")
    assert operator.platform.ask("SELECT count(*) AS orders FROM staging.orders") == before
    assert operator.platform.ledger().problems == []


def test_every_block_was_typed(operator: Operator) -> None:
    assert not set(BLOCKS) - operator.typed
