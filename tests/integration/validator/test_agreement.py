"""What SQL rejects is what Great Expectations finds, on a dataset that no line of code knows and on nasty values."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libs.adapters.warehouse import Warehouse
from libs.datasets import Dataset, load_datasets
from libs.pipeline.build import Recipe, build_generation
from services.validator.domain import Candidate, Facts, NewBatches, RuleResult, Status
from services.validator.examine import examine
from services.validator.judge import Judge

FOLDER = Path(__file__).parents[2] / "data" / "datasets"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BATCH = uuid.UUID("6f2d7c1e-8c5a-4b8e-9a35-0d1a3f1f0b01")

SOUND: dict[str, Any] = {
    "account_ref": "ACC-1234",
    "currency": "EUR",
    "amount": Decimal("100.00"),
    "fee": Decimal("0.3500"),
    "paid_on": date(2026, 3, 1),
    "settled": True,
    "captured_at": NOON,
}
NASTY: dict[str, list[Any]] = {
    "account_ref": [
        "ACC-12345",
        "acc-1234",
        "ACC-1234\n",
        "ACC-١٢٣٤",
        "xACC-1234",
        "",
        "É",
        "ACC-1234 " * 9,
        "🙂" * 21,
    ],
    "currency": ["eur", "EUR ", "", "XXX", "ＥＵＲ"],
    "amount": [
        Decimal("0.00"),
        Decimal("-0.01"),
        Decimal("0.01"),
        Decimal("1000000.00"),
        Decimal("1000000.01"),
    ],
    "paid_on": [date(2019, 12, 31), date(2020, 1, 1), date(1, 1, 1), date(9999, 12, 31)],
    "settled": [None, False],
}


@pytest.fixture(scope="module")
def payments() -> Dataset:
    return load_datasets(FOLDER)["payments"]


def judged(
    payments: Dataset, rows: list[dict[str, Any]], folder: Path, judge: Judge
) -> dict[str, RuleResult]:
    """The results of a candidate made of these rows."""
    landed = [
        {
            "source_payment_id": number,
            **SOUND,
            "event_id": f"e{number}",
            "source_system": "bank",
            "event_time": NOON + timedelta(seconds=number),
            "batch_id": str(BATCH),
            **row,
        }
        for number, row in enumerate(rows)
    ]
    warehouse = Warehouse(folder, "payments")
    recipe = Recipe(dataset=payments, generation=1, parent=None, kind="full", batches=[BATCH])
    built = build_generation(warehouse, recipe, [pa.Table.from_pylist(landed)], file="gen-000001-1.duckdb")
    candidate = Candidate(
        generation=1,
        dataset="payments",
        kind="full",
        parent=None,
        file="gen-000001-1.duckdb",
        sha256=built.sha256,
        cause=BATCH,
        traceparent=None,
        started_at=NOON,
        added=(BATCH,),
    )
    facts = Facts(
        new=NewBatches(added=[BATCH], unseen={BATCH}, accepted=()),
        raw_counts={BATCH: len(landed)},
        carried_batches=0,
        carried_rows=0,
        held=(),
        parent_replaced=False,
        parent_watermark=None,
        parent_lacks=False,
        live=len(landed),
        late=0,
    )
    results = examine(warehouse.path_of(candidate.file), candidate, payments, facts, judge)
    return {result.rule: result for result in results}


def test_a_folder_is_judged_by_its_own_rules(payments: Dataset, tmp_path: Path, judge: Judge) -> None:
    results = judged(payments, [{} for _ in range(20)], tmp_path, judge)

    assert {name: result.detail for name, result in results.items() if result.status is not Status.PASS} == {}
    assert {"fee_below_amount", "mart_currency_is_upper_case", "account_is_a_reference"} <= set(results)


def test_both_sides_name_the_same_rows_whatever_is_in_them(
    payments: Dataset, tmp_path: Path, judge: Judge
) -> None:
    nasty = [{column: value} for column, values in NASTY.items() for value in values]

    results = judged(payments, [{} for _ in range(3)] + nasty, tmp_path, judge)

    assert [result.detail for result in results.values() if "disagree" in (result.detail or "")] == []
    assert [result.detail for result in results.values() if result.status is Status.ERROR] == []
    found = [
        result.unexpected for name, result in results.items() if name.startswith(("account", "currency"))
    ]
    assert all(found)


def test_a_rule_written_in_yaml_blocks_what_breaks_it(
    payments: Dataset, tmp_path: Path, judge: Judge
) -> None:
    rows: list[dict[str, Any]] = [{} for _ in range(9)] + [{"fee": Decimal("100.0100")}]

    results = judged(payments, rows, tmp_path, judge)

    assert results["fee_below_amount"].status is Status.FAIL
    assert [failure.event_id for failure in results["fee_below_amount"].failures] == ["e9"]
