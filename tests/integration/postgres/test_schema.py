"""Migrations and RAW tables, on a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from libs.adapters.postgres import Postgres, ensure_raw, migrate, migrations_folder
from libs.adapters.postgres import schema as schema_module
from libs.datasets import Column, ColumnType, Dataset, load_datasets
from libs.errors import Permanent

MIGRATE = """
import asyncio, sys
from libs.adapters.postgres import migrate
print(*asyncio.run(migrate(sys.argv[1])))
"""


def every_migration() -> list[str]:
    return sorted(path.stem for path in migrations_folder().glob("*.sql"))


async def test_processes_that_start_at_once_migrate_once(empty_postgres_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, empty_postgres_url, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(5)
    ]
    outcomes = await asyncio.gather(*(process.communicate() for process in processes))

    assert [process.returncode for process in processes] == [0] * 5, outcomes
    applied = [stdout.decode().split() for stdout, _ in outcomes if stdout.strip()]
    assert applied == [every_migration()]


async def test_a_database_that_is_up_to_date_is_left_alone(postgres_url: str) -> None:
    assert await migrate(postgres_url) == []


async def test_the_lock_of_a_migration_that_died_is_broken(empty_postgres_url: str) -> None:
    await migrate(empty_postgres_url)
    connection = await asyncpg.connect(empty_postgres_url)
    await connection.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 4711)")

    assert await asyncio.wait_for(migrate(empty_postgres_url), 30) == []
    assert await connection.fetchval("SELECT count(*) FROM yoyo_lock") == 0
    await connection.close()


async def test_a_migration_that_fails_leaves_nothing_and_can_be_tried_again(
    empty_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration and the note that it was applied are one transaction."""
    script = tmp_path / "0001_half.sql"
    script.write_text("CREATE TABLE first_half (id int);\nCREATE TABLE nowhere.second_half (id int);\n")
    monkeypatch.setattr(schema_module, "migrations_folder", lambda: tmp_path)

    with pytest.raises(Permanent, match="nowhere"):
        await migrate(empty_postgres_url)
    script.write_text("CREATE TABLE first_half (id int);\nCREATE TABLE second_half (id int);\n")

    assert await migrate(empty_postgres_url) == ["0001_half"]


async def test_a_process_killed_between_migrating_and_noting_it_leaves_nothing_behind(
    empty_postgres_url: str,
) -> None:
    dying = """
import os, signal, yoyo.backends.base as base
base.DatabaseBackend.mark_one = lambda self, migration, log=True: os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", dying + MIGRATE, empty_postgres_url, stdout=subprocess.PIPE
    )
    await killed.communicate()

    assert killed.returncode == -9
    assert await migrate(empty_postgres_url) == every_migration()


@pytest.fixture
def orders() -> Dataset:
    return load_datasets()["orders"]


async def test_a_raw_table_is_made_once_by_whoever_comes_first(postgres_url: str, orders: Dataset) -> None:
    postgres = await Postgres.open(postgres_url, service="test", max_size=4)

    async def make() -> list[str]:
        async with postgres.connection() as connection:
            return await ensure_raw(connection, orders)

    done = await asyncio.gather(*(make() for _ in range(4)))
    await postgres.close()

    assert sorted(len(statements) for statements in done) == [0, 0, 0, 1]


async def test_a_new_optional_column_is_added_to_a_raw_table_with_rows(
    postgres_url: str, orders: Dataset
) -> None:
    coupon = Column("coupon", "coupon", ColumnType.STRING, required=False)
    grown = dataclasses.replace(orders, columns=(*orders.columns, coupon))
    postgres = await Postgres.open(postgres_url, service="test")
    async with postgres.connection() as connection:
        await ensure_raw(connection, orders)
        added = await ensure_raw(connection, grown)
        again = await ensure_raw(connection, grown)
    await postgres.close()

    assert added == ['ALTER TABLE raw.orders_raw ADD COLUMN IF NOT EXISTS "coupon" text']
    assert again == []


async def test_a_raw_table_of_an_older_version_gets_its_index_with_its_rows_kept(
    postgres_url: str, orders: Dataset
) -> None:
    postgres = await Postgres.open(postgres_url, service="test")
    async with postgres.connection() as connection:
        await ensure_raw(connection, orders)
        await connection.execute("DROP INDEX raw.orders_raw_source_order_id_idx")
        added = await ensure_raw(connection, orders)
        again = await ensure_raw(connection, orders)
        rekeyed = dataclasses.replace(orders, key=orders.column("customer_id"))
        other = await ensure_raw(connection, rekeyed)
    await postgres.close()

    assert added == ['CREATE INDEX ON raw.orders_raw USING hash ("source_order_id")']
    assert again == []
    assert other == ['CREATE INDEX ON raw.orders_raw USING hash ("customer_id")']


async def test_a_contract_that_contradicts_the_raw_table_is_refused_with_the_difference(
    postgres_url: str, orders: Dataset
) -> None:
    changed = tuple(
        dataclasses.replace(column, precision=14) if column.name == "amount" else column
        for column in orders.columns
    )
    postgres = await Postgres.open(postgres_url, service="test")
    async with postgres.connection() as connection:
        await ensure_raw(connection, orders)
        with pytest.raises(Permanent, match=r"numeric\(12,2\).*numeric\(14,2\)"):
            await ensure_raw(connection, dataclasses.replace(orders, columns=changed))
    await postgres.close()
