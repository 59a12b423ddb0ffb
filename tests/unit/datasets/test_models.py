"""The SQL of our own datasets, run on a few rows."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import duckdb

from libs.datasets import Dataset, load_dataset, load_datasets

PAYMENTS = Path("tests/data/datasets/payments")


def build(dataset: Dataset, rows: list[tuple[object, ...]]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'America/New_York'; CREATE SCHEMA staging; CREATE SCHEMA analytics")
    columns = ", ".join(f'"{name}" {kind}' for name, kind in dataset.landed_columns)
    connection.execute(f"CREATE TABLE landed ({columns})")
    marks = ", ".join("?" for _ in dataset.columns)
    for number, row in enumerate(rows):
        at = dt.datetime(2026, 1, 5, 12, number, tzinfo=dt.UTC)
        connection.execute(
            f"INSERT INTO landed VALUES ({marks}, ?, 'test', ?, uuid())", [*row, f"e{number}", at]
        )
    connection.execute(f"CREATE TABLE {dataset.staging_table} AS {dataset.staging_sql}")
    for name, sql in dataset.marts.items():
        connection.execute(f"CREATE TABLE analytics.{name} AS {sql}")
    return connection


def test_daily_order_metrics_count_days_in_utc_and_money_to_the_cent() -> None:
    orders = load_datasets()["orders"]
    connection = build(
        orders,
        [
            ("1", "c", Decimal("10.00"), "2026-01-04T23:30:00-02:00"),
            ("2", "c", Decimal("0.01"), "2026-01-05T23:59:59Z"),
            ("3", "c", Decimal("7.00"), "2026-01-06T00:00:00Z"),
        ],
    )
    described = connection.execute("DESCRIBE analytics.daily_order_metrics").fetchall()
    rows = connection.execute(
        "SELECT order_date, total_orders, total_amount, avg_amount, epoch(last_refreshed_at)"
        " FROM analytics.daily_order_metrics ORDER BY 1"
    ).fetchall()

    assert [(row[0], row[1]) for row in described] == [
        ("order_date", "DATE"),
        ("total_orders", "BIGINT"),
        ("total_amount", "DECIMAL(38,2)"),
        ("avg_amount", "DECIMAL(18,2)"),
        ("last_refreshed_at", "TIMESTAMP WITH TIME ZONE"),
    ]
    noon = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC).timestamp()
    assert rows == [
        (dt.date(2026, 1, 5), 2, Decimal("10.01"), Decimal("5.01"), noon + 60),
        (dt.date(2026, 1, 6), 1, Decimal("7.00"), Decimal("7.00"), noon + 120),
    ]


def test_the_metrics_of_every_table_rule_can_be_computed_and_hold() -> None:
    moment = "2026-01-05T10:00:00Z"
    cases = [
        (load_datasets()["orders"], ("1", "c", Decimal("10.00"), moment)),
        (
            load_dataset(PAYMENTS),
            (1, "ACC-1234", "EUR", Decimal("9.00"), Decimal("0.1234"), dt.date(2026, 1, 5), None, moment),
        ),
    ]
    for dataset, row in cases:
        connection = build(dataset, [row])
        for rule in dataset.table_rules:
            if rule.metric_sql is not None:
                found = connection.execute(rule.metric_sql).fetchone()
                assert found is not None
                assert rule.comparison.holds(float(found[0])), rule.name


def test_a_key_that_stands_twice_is_counted() -> None:
    orders = load_datasets()["orders"]
    connection = build(orders, [("1", "c", Decimal(1), "2026-01-05"), ("1", "c", Decimal(1), "2026-01-05")])
    rule = next(rule for rule in orders.table_rules if rule.name == "order_id_unique")

    assert connection.execute(rule.metric_sql or "").fetchone() == (1,)
