"""RAW follows from the contract: made once, then only added to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.datasets import Column, ColumnType, Dataset, load_datasets, raw_changes, raw_columns, raw_table_ddl


@pytest.fixture(scope="module")
def orders() -> Dataset:
    return load_datasets()["orders"]


def existing(dataset: Dataset) -> dict[str, str]:
    return {name: kind for name, kind, _ in raw_columns(dataset)}


def with_column(dataset: Dataset, *, required: bool) -> Dataset:
    column = Column("coupon", "coupon", ColumnType.STRING, required=required)
    return replace(dataset, columns=(*dataset.columns, column))


def test_a_table_that_fits_needs_nothing(orders: Dataset) -> None:
    changes = raw_changes(orders, existing(orders))

    assert (changes.add, changes.conflicts) == ([], [])


def test_without_a_table_every_column_is_new(orders: Dataset) -> None:
    changes = raw_changes(orders, {})

    assert changes.add == list(raw_columns(orders))
    assert changes.conflicts == []


def test_a_new_optional_field_is_a_column_to_add(orders: Dataset) -> None:
    changes = raw_changes(with_column(orders, required=False), existing(orders))

    assert (changes.add, changes.conflicts) == ([("coupon", "text", True)], [])


def test_a_field_that_becomes_optional_needs_no_change(orders: Dataset) -> None:
    columns = tuple(replace(c, required=c.name == orders.key.name) for c in orders.columns)
    relaxed = replace(orders, columns=columns)

    assert raw_columns(relaxed) == raw_columns(orders)


def test_a_new_required_field_is_a_conflict(orders: Dataset) -> None:
    changes = raw_changes(with_column(orders, required=True), existing(orders))

    assert changes.add == []
    assert "required: false" in changes.conflicts[0]


def test_another_type_is_a_conflict_that_names_both(orders: Dataset) -> None:
    changes = raw_changes(orders, existing(orders) | {"amount": "numeric(10,2)"})

    assert changes.conflicts == [
        "raw.orders_raw.amount is numeric(10,2), the contract says numeric(12,2); "
        "write `physicalType: numeric(10,2)` or give the new shape a new physicalName"
    ]


def test_a_column_the_contract_dropped_is_a_conflict(orders: Dataset) -> None:
    changes = raw_changes(orders, existing(with_column(orders, required=False)))

    assert "coupon (text) is missing from the contract" in changes.conflicts[0]


def test_the_ddl_makes_the_table_of_the_design(orders: Dataset) -> None:
    ddl = raw_table_ddl(orders)

    assert "CREATE TABLE raw.orders_raw (" in ddl
    assert '"source_order_id" text NOT NULL' in ddl
    assert '"amount" numeric(12,2),' in ddl
    assert "UNIQUE (event_id, source_system)" in ddl
    assert "ON raw.orders_raw (batch_id)" in ddl
    assert 'ON raw.orders_raw USING hash ("source_order_id")' in ddl
