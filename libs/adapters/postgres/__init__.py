"""The door to Postgres: the pool, the schema, and the names of what it can refuse."""

from __future__ import annotations

from libs.adapters.postgres.errors import PostgresRefused, PostgresUnavailable
from libs.adapters.postgres.pool import Connection, Postgres, Row, copy_rows
from libs.adapters.postgres.schema import ensure_raw, migrate, migrations_folder

__all__ = [
    "Connection",
    "Postgres",
    "PostgresRefused",
    "PostgresUnavailable",
    "Row",
    "copy_rows",
    "ensure_raw",
    "migrate",
    "migrations_folder",
]
