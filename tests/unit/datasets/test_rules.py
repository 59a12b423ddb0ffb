"""A row rule is one condition in two spellings: DuckDB SQL and an expectation."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.datasets import (
    Column,
    ColumnType,
    Comparison,
    Dataset,
    RowRuleKind,
    TableRuleKind,
    load_dataset,
    load_datasets,
)
from libs.datasets.patterns import common_pattern, python_regex
from libs.datasets.predicates import broken_sql, expectation, read_arguments

PAYMENTS = Path("tests/data/datasets/payments")


def a_column(type_: ColumnType, name: str = 'odd "name"') -> Column:
    is_number = type_ is ColumnType.NUMBER
    return Column(
        "x", name, type_, required=False, precision=12 if is_number else None, scale=2 if is_number else None
    )


def broken(given_arguments: dict[str, Any], column: Column, value: object) -> bool:
    kind, arguments = read_arguments(given_arguments, column)
    sql = broken_sql(kind, arguments, column)
    relation = f'SELECT CAST($1 AS {column.duckdb_type}) AS "{column.name.replace(chr(34), chr(34) * 2)}"'
    row = duckdb.execute(f"SELECT {sql} FROM ({relation})", [value]).fetchone()
    assert row is not None
    assert isinstance(row[0], bool), "a predicate is never NULL"
    return row[0]


CASES: list[tuple[dict[str, Any], ColumnType, object, bool]] = [
    ({"minimum": 0}, ColumnType.NUMBER, Decimal("0.00"), False),
    ({"minimum": 0}, ColumnType.NUMBER, Decimal("-0.01"), True),
    ({"exclusiveMinimum": 0}, ColumnType.NUMBER, Decimal("0.00"), True),
    ({"minimum": "0.1", "maximum": 2.5}, ColumnType.NUMBER, Decimal("2.50"), False),
    ({"minimum": 0, "exclusiveMaximum": 2.5}, ColumnType.NUMBER, Decimal("2.50"), True),
    ({"minimum": 0}, ColumnType.NUMBER, None, False),
    ({"maximum": 9}, ColumnType.INTEGER, 10, True),
    ({"minimum": "2020-01-01"}, ColumnType.DATE, dt.date(2019, 12, 31), True),
    ({"minimum": "2020-01-01"}, ColumnType.DATE, dt.date(2020, 1, 1), False),
    ({"maximum": "2020-01-01T00:00:00+02:00"}, ColumnType.TIMESTAMP, "2019-12-31T22:00:00Z", False),
    ({"maximum": "2020-01-01T00:00:00+02:00"}, ColumnType.TIMESTAMP, "2019-12-31T22:00:01Z", True),
    ({"validValues": ["it's", "b"]}, ColumnType.STRING, "it's", False),
    ({"validValues": ["it's", "b"]}, ColumnType.STRING, "c", True),
    ({"validValues": ["it's", "b"]}, ColumnType.STRING, None, False),
    ({"validValues": [True]}, ColumnType.BOOLEAN, False, True),
    ({"validValues": [1, "2.5"]}, ColumnType.NUMBER, Decimal("2.50"), False),
    ({"pattern": "^a'b$"}, ColumnType.STRING, "a'b", False),
    ({"pattern": "ab"}, ColumnType.STRING, "xabx", True),
    ({"minLength": 2, "maxLength": 3}, ColumnType.STRING, "🤦🏽", False),
    ({"minLength": 2}, ColumnType.STRING, "é", True),
    ({"maxLength": 3}, ColumnType.STRING, "abcd", True),
]


@pytest.mark.parametrize(("arguments", "type_", "value", "expected"), CASES)
def test_the_sql_finds_the_rows_that_break_the_rule(
    arguments: dict[str, Any], type_: ColumnType, value: object, expected: bool
) -> None:
    assert broken(arguments, a_column(type_), value) is expected


def test_only_not_null_is_broken_by_null() -> None:
    column = a_column(ColumnType.STRING, "x")
    sql = broken_sql(RowRuleKind.NOT_NULL, {}, column)
    rows = duckdb.execute(f"SELECT {sql} FROM (VALUES (NULL), ('')) AS t(x)").fetchall()

    assert rows == [(True,), (False,)]


def test_the_expectation_says_the_same_with_typed_values() -> None:
    column = a_column(ColumnType.NUMBER, "amount")
    kind, arguments = read_arguments({"exclusiveMinimum": 0, "maximum": 7}, column)
    judge = expectation(kind, arguments, column, 0.07)

    assert judge.type == "expect_column_values_to_be_between"
    assert judge.kwargs == {
        "column": "amount",
        "min_value": Decimal("0.00"),
        "max_value": Decimal("7.00"),
        "strict_min": True,
        "strict_max": False,
    }
    assert judge.mostly == 0.93


PATTERNS = [
    r"^ACC-\d{4}$", r"a|ab", r"[\w.-]+@[\w-]+\.\w{2,}", r".*", r"[^x]?y+", r"(?:ab)*c??", r"\$\{a\}", r"[]a]", r"\W\D",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=60, deadline=None)
@given(value=st.text(alphabet="abcxyAC-0123459@._${}]é١ \n\r\t\v$", max_size=8))
@example(value="ACC-1234\n")
@example(value="ACC-١٢٣٤")
@example(value="a.b@c-d.ef")
@example(value="ab")
@example(value="${a}")
def test_a_pattern_means_the_same_in_duckdb_and_in_python(pattern: str, value: str) -> None:
    common = common_pattern(pattern)
    row = duckdb.execute("SELECT regexp_full_match($1, $2)", [value, common]).fetchone()

    assert row == (re.search(python_regex(common), value) is not None,)


@pytest.mark.parametrize(
    "pattern",
    [r"(?=a)", r"(?i)a", r"(a)\1", r"a\b", r"\s", r"\p{L}", r"a$b", r"a++", r"*a", r"a{2000}", r"(a", r"[[:alpha:]]",
     r"\Aa", r"a{,3}", r"(?P<n>a)", r"[a&&b]", "a{"],
)  # fmt: skip
def test_a_pattern_that_engines_read_differently_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        common_pattern(pattern)


def test_an_escaped_dollar_at_the_end_is_a_literal() -> None:
    assert common_pattern(r"a\$") == r"a\$"
    assert common_pattern(r"a\\$") == r"a\\"


@pytest.fixture(scope="module")
def orders() -> Dataset:
    return load_datasets()["orders"]


def test_orders_have_the_seed_rules(orders: Dataset) -> None:
    row = {(rule.column.name, rule.kind): rule.tolerance for rule in orders.row_rules}
    table = {rule.name: rule for rule in orders.table_rules}

    assert row == {
        ("source_order_id", RowRuleKind.NOT_NULL): 0,
        ("customer_id", RowRuleKind.NOT_NULL): 0,
        ("order_created_at", RowRuleKind.NOT_NULL): 0,
        ("amount", RowRuleKind.RANGE): 0.02,
    }
    assert table["order_id_unique"].columns == ("source_order_id",)
    assert table["orders_not_empty"].comparison == Comparison(1, None)
    assert table["mart_totals_equal_staging"].relation == "analytics.daily_order_metrics"
    assert {rule.kind for rule in table.values()} >= {TableRuleKind.RECONCILIATION, TableRuleKind.WATERMARK}
    assert orders.freshness is not None


def test_orders_columns_and_names_follow_from_the_contract(orders: Dataset) -> None:
    assert [(c.field, c.name, c.postgres_type, c.duckdb_type, c.required) for c in orders.columns] == [
        ("order_id", "source_order_id", "text", "VARCHAR", True),
        ("customer_id", "customer_id", "text", "VARCHAR", True),
        ("amount", "amount", "numeric(12,2)", "DECIMAL(12,2)", True),
        ("created_at", "order_created_at", "timestamp with time zone", "TIMESTAMP WITH TIME ZONE", True),
    ]
    assert orders.key is orders.column("source_order_id")
    assert orders.event_time is orders.column("order_created_at")
    assert (orders.stream, orders.dataschema, orders.raw_table) == (
        "orders",
        "urn:drp:orders:v1",
        "raw.orders_raw",
    )
    assert list(orders.marts) == ["daily_order_metrics"]


def test_a_custom_expectation_is_scoped_by_where_it_stands() -> None:
    pair, mart = load_dataset(PAYMENTS).custom_rules

    assert (pair.relation, pair.columns) == ("staging.payments", ("amount", "fee"))
    assert (mart.relation, mart.expectation.kwargs["column"]) == (
        "analytics.payments_by_currency",
        "currency",
    )


def test_every_table_rule_of_a_mart_reads_its_table() -> None:
    rules = {rule.name: rule for rule in load_dataset(PAYMENTS).table_rules}

    assert rules["one_row_per_day_and_currency"].columns == ("paid_on", "currency")
    assert '"analytics"."payments_by_currency"' in (rules["mart_amount_equals_staging"].metric_sql or "")


@pytest.mark.parametrize(
    ("comparison", "holds", "fails", "text"),
    [
        (Comparison(0, 0), 0, 1, "= 0"),
        (Comparison(1, None), 1, 0, "≥ 1"),
        (Comparison(1, None, strict_minimum=True), 2, 1, "> 1"),
        (Comparison(1, 3, strict_maximum=True), 1, 3, "≥ 1 and < 3"),
    ],
)
def test_a_comparison_holds_or_not_and_says_so(
    comparison: Comparison, holds: int, fails: int, text: str
) -> None:
    assert comparison.holds(holds)
    assert not comparison.holds(fails)
    assert str(comparison) == text
