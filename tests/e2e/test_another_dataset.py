"""No code knows what an order is: a folder with another dataset goes through the whole flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from libs.testing.builders import a_batch_of, a_payment, encoded
from libs.testing.platform import RunningPlatform
from tests.e2e.conftest import Start

pytestmark = pytest.mark.heavy

FOLDER = Path(__file__).parents[1] / "data" / "datasets"
MART = """
SELECT payments, settled_payments, total_amount::VARCHAR AS amount, total_net::VARCHAR AS net
FROM analytics.payments_by_currency WHERE currency = 'EUR'
"""


@pytest.fixture(scope="module")
def platform(start: Start) -> RunningPlatform:
    return start(DRP_DATASETS_DIR=str(FOLDER))


def xadd(platform: RunningPlatform, document: bytes) -> None:
    with redis.Redis.from_url(platform.urls["DRP_REDIS_URL"]) as client:
        client.xadd("finance.payments", {"data": document})


def statuses(platform: RunningPlatform) -> dict[str, str]:
    return {rule["rule"]: rule["status"] for rule in platform.json("quality", "show")["rules"]}


def test_payments_from_a_file_and_a_plain_xadd_reach_their_mart(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [event["data"] for event in a_batch_of(40, a_payment)]
    file = tmp_path / "payments.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    platform.drp("publish", "--dataset", "payments", "--file", str(file))
    xadd(platform, encoded(a_payment()))
    xadd(platform, encoded(a_batch_of(9, a_payment)))
    platform.settle()

    assert platform.ask(MART, dataset="payments") == [
        {"payments": 50, "settled_payments": 50, "amount": "5000.00", "net": "4982.5000"}
    ]
    verdicts = statuses(platform)
    assert verdicts["fee_below_amount"] == verdicts["mart_currency_is_upper_case"] == "pass"
    assert {"fail", "error"}.isdisjoint(verdicts.values())


def test_what_its_contract_refuses_is_quarantined(platform: RunningPlatform) -> None:
    xadd(platform, encoded(a_payment(payment_id="not a number")))
    platform.settle()

    (refused,) = platform.json("quarantine", "ls", "--dataset", "payments")
    assert (refused["reason"], refused["field"]) == ("wrong_type", "payment_id")


def test_its_row_rules_reject_within_their_tolerance(platform: RunningPlatform) -> None:
    xadd(platform, encoded([*a_batch_of(9, a_payment), a_payment(currency="XXX")]))
    platform.settle()

    rejected = platform.ask("SELECT rule, currency FROM staging.payments_rejected", dataset="payments")
    assert rejected == [{"rule": "currency_is_known", "currency": "XXX"}]


def test_its_great_expectations_rule_blocks(platform: RunningPlatform) -> None:
    before = platform.ask(MART, dataset="payments")
    xadd(platform, encoded([*a_batch_of(9, a_payment), a_payment(fee="200.0000")]))
    platform.settle(expect=3)

    assert statuses(platform)["fee_below_amount"] == "fail"
    assert platform.ask(MART, dataset="payments") == before


def test_it_is_archived_and_replays_to_the_same_hashes(platform: RunningPlatform) -> None:
    assert platform.json("archive", "verify")["problems"] == []
    assert platform.json("replay", "--verify", "--dataset", "payments")["identical"] is True
    report = platform.ledger("payments")
    assert (report.unaccounted, list(report.problems)) == (0, [])
