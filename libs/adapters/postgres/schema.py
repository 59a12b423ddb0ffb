"""The schema: migrations of ops, and RAW tables that follow from a dataset's contract."""

from __future__ import annotations

import asyncio
import functools
import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import asyncpg

from libs.adapters.postgres.errors import named, translated
from libs.adapters.postgres.pool import Connection, once_it_answers
from libs.datasets import Dataset, quoted, raw_changes, raw_key_index, raw_table_ddl
from libs.errors import Permanent

__all__ = ["ensure_raw", "migrate", "migrations_folder"]

_MIGRATING: Final = 0x6472_7000
_SHAPING_RAW: Final = 0x6472_7001
"""Keys of our advisory locks, `drp` in ASCII and a number."""

_KEY_INDEX: Final = """
-- one row: whether rows of the table are found by the column
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = to_regclass($1) AND a.attname = $2 AND i.indisvalid AND i.indpred IS NULL
)
"""


def migrations_folder() -> Path:
    """Where the migrations lie: beside this file in a wheel, under deploy in the source tree."""
    packaged = Path(__file__).with_name("migrations")
    source = Path(__file__).parents[3] / "deploy" / "migrations"
    for folder in (packaged, source):
        if any(folder.glob("*.sql")):
            return folder
    raise Permanent(
        "no migrations are installed", why=f"neither in {packaged} nor in {source}", fix="make install"
    )


async def migrate(url: str, *, patience: float = 30) -> list[str]:
    """Bring the database to this version's schema; returns the names of the migrations that were missing.

    Any number of processes may call it at once: one works, the others wait and find nothing to do. patience
    is how long to wait for the server, in seconds.
    """
    folder = migrations_folder()
    attempt = functools.partial(asyncpg.connect, url, timeout=min(patience, 10))
    connection: Connection = await once_it_answers(attempt, patience=patience)
    try:
        with translated():
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATING)
        return await asyncio.to_thread(_apply_missing, url, folder)
    finally:
        await connection.close(timeout=5)


def _apply_missing(url: str, folder: Path) -> list[str]:
    # needed at boot only, and slow to import
    import psycopg
    import yoyo

    address = "postgresql+psycopg://" + url.partition("://")[2]
    try:
        with yoyo.get_backend(address) as backend:
            # We hold the lock that counts, so a row left in yoyo's own is from a process that died.
            backend.break_lock()
            with backend.lock():
                missing = backend.to_apply(yoyo.read_migrations(glob.escape(str(folder))))
                for migration in missing:
                    # yoyo applies and marks in two transactions; a crash between them would apply it twice.
                    with backend.transaction():
                        migration.process_steps(backend, "apply")
                        backend.mark_one(migration, log=False)
                return [str(migration.id) for migration in missing]
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error)
        raise named(error.sqlstate, message, type(error).__name__) from error


async def ensure_raw(connection: Connection, dataset: Dataset) -> list[str]:
    """Make the dataset's RAW table, or add the columns and the index it lacks; returns what was done, as SQL.

    Raises:
        Permanent: the table that exists contradicts the contract; the message says in which columns.
    """
    with translated():
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _SHAPING_RAW)
            present = await _columns(connection, dataset.raw_table)
            done = _statements(dataset, present)
            if present and not await connection.fetchval(_KEY_INDEX, dataset.raw_table, dataset.key.name):
                done.append(raw_key_index(dataset))
            for statement in done:
                await connection.execute(statement)
            return done


def _statements(dataset: Dataset, present: Mapping[str, str]) -> list[str]:
    if not present:
        return [raw_table_ddl(dataset)]
    changes = raw_changes(dataset, present)
    if changes.conflicts:
        raise Permanent(
            f"the contract of {dataset.name} contradicts the RAW table that exists",
            why="; ".join(changes.conflicts),
        )
    return [
        f"ALTER TABLE {dataset.raw_table} ADD COLUMN IF NOT EXISTS {quoted(name)} {kind}"
        for name, kind, _nullable in changes.add
    ]


async def _columns(connection: Connection, table: str) -> dict[str, str]:
    """Name to type, as format_type gives it; empty if there is no such table."""
    rows = await connection.fetch(
        """
        -- one row per column
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type
        FROM pg_attribute a
        WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """,
        table,
    )
    return {row["attname"]: row["type"] for row in rows}
