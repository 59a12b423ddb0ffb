"""RAW's table as it follows from the contract, and what must change in one that exists. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.datasets.model import RAW_COLUMNS_AFTER, RAW_COLUMNS_BEFORE, Dataset, quoted

__all__ = ["RawChanges", "raw_changes", "raw_columns", "raw_key_index", "raw_table_ddl"]

_MODIFIERS = {
    "id": " GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "ingested_at": " DEFAULT now()",
    "origin": " DEFAULT 'live'",
}


@dataclass(frozen=True, slots=True)
class RawChanges:
    """add: columns to add, (name, Postgres type, nullable), safe on a table with rows if conflicts is empty.
    conflicts: differences that only a person can settle, one readable line each."""

    add: list[tuple[str, str, bool]]
    conflicts: list[str]


def raw_columns(dataset: Dataset) -> tuple[tuple[str, str, bool], ...]:
    """(name, Postgres type, nullable) of every column of the RAW table, in order.

    Of the contract's columns only the key is NOT NULL: the decoder keeps the required ones filled, and a
    contract that makes a field optional must not find a table that disagrees.
    """
    own = tuple(
        (column.name, column.postgres_type, column.name != dataset.key.name) for column in dataset.columns
    )
    return (*RAW_COLUMNS_BEFORE, *own, *RAW_COLUMNS_AFTER)


def raw_table_ddl(dataset: Dataset) -> str:
    """The statements that make the RAW table and its indexes; the caller makes sure that none exists."""
    lines = [
        f"    {quoted(name)} {kind}{'' if nullable else ' NOT NULL'}{_MODIFIERS.get(name, '')}"
        for name, kind, nullable in raw_columns(dataset)
    ]
    body = ",\n".join([*lines, "    UNIQUE (event_id, source_system)"])
    return (
        f"-- one row per accepted event of {dataset.name}\n"
        f"CREATE TABLE {dataset.raw_table} (\n{body}\n);\n"
        f"CREATE INDEX {quoted(dataset.name + '_raw_batch')} ON {dataset.raw_table} (batch_id);\n"
        f"{raw_key_index(dataset)};\n"
    )


def raw_key_index(dataset: Dataset) -> str:
    """The statement that lets an event be found by its row's key.

    A hash: a B-tree refuses a key of more than 2.7 kB, and with it the landing. Postgres names it, for a contract may
    take another key some day.
    """
    return f"CREATE INDEX ON {dataset.raw_table} USING hash ({quoted(dataset.key.name)})"


def raw_changes(dataset: Dataset, existing: Mapping[str, str]) -> RawChanges:
    """Compare the contract with the table that exists.

    existing maps column name to `format_type(atttypid, atttypmod)`; empty if there is no table (then every
    column is in `add`: use raw_table_ddl instead).
    """
    wanted = raw_columns(dataset)
    if not existing:
        return RawChanges(add=list(wanted), conflicts=[])
    add: list[tuple[str, str, bool]] = []
    conflicts: list[str] = []
    required = {column.name for column in dataset.columns if column.required}
    for name, kind, nullable in wanted:
        found = existing.get(name)
        if found is None and nullable and name not in required:
            add.append((name, kind, nullable))
        elif found is None:
            conflicts.append(
                f"{dataset.raw_table} has rows without {name}: a new column must be optional; "
                f"write `required: false` for it in {dataset.path / 'contract.yaml'}"
            )
        elif found != kind:
            conflicts.append(
                f"{dataset.raw_table}.{name} is {found}, the contract says {kind}; "
                f"write `physicalType: {found}` or give the new shape a new physicalName"
            )
    known = {name for name, _, _ in wanted}
    for name, found in existing.items():
        if name not in known:
            conflicts.append(
                f"{dataset.raw_table}.{name} ({found}) is missing from the contract; "
                f"put it back in {dataset.path / 'contract.yaml'}, "
                "with `required: false` if events no longer carry it"
            )
    return RawChanges(add=add, conflicts=conflicts)
