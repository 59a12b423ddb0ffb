"""The one door to DuckDB: a folder of immutable generations, and the databases in it.

Importing this imports no DuckDB; opening the first database does.
"""

from __future__ import annotations

from libs.adapters.warehouse.database import Database
from libs.adapters.warehouse.folder import Sealed, Warehouse, sha256_of
from libs.adapters.warehouse.query import query, write_result

__all__ = ["Database", "Sealed", "Warehouse", "query", "sha256_of", "write_result"]
