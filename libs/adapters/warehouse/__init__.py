"""The one door to DuckDB: a folder of immutable generations, and the databases in it.

Importing this imports no DuckDB; opening the first database does.
"""

from __future__ import annotations

from libs.adapters.warehouse.database import Database
from libs.adapters.warehouse.folder import Sealed, Warehouse, sha256_of
from libs.adapters.warehouse.query import distinct, query, write_result, write_stream
from libs.adapters.warehouse.question import Answer, Limits, ask

__all__ = [
    "Answer",
    "Database",
    "Limits",
    "Sealed",
    "Warehouse",
    "ask",
    "distinct",
    "query",
    "sha256_of",
    "write_result",
    "write_stream",
]
