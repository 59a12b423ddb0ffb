"""One DuckDB database, its times in UTC, its errors in the house's two kinds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from libs.adapters.warehouse.refusals import translated, translated_stream
from libs.errors import DrpError, Permanent

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

__all__ = ["Database"]

_GENERATION: Final = "warehouse"
"""The catalog that a generation is attached as, whatever its file is called."""

_QUERIES: Final = ("SELECT", "EXPLAIN", "MULTI")
"""DuckDB's kinds of statement that only read. MULTI: a PIVOT, which DuckDB makes two statements of."""

_INEXACT: Final = ("UHUGEINT", "TIME WITH TIME ZONE")
"""Of an integer over 2^127 Arrow is given a negative one, of a time of day its zone is left out (DuckDB 2.0)."""

_STORAGE: Final = "v1.0.0"
"""Files are written so that every DuckDB since 1.0 opens them: people read with tools that lag behind ours."""


class Database:
    """A connection to one database file, or to memory.

    Every method blocks: call it in a thread. Not for two threads at once, but for `interrupt`.

    Raises (every method):
        Transient: the file is locked, the disk is full, memory ran out, or it was interrupted.
        Permanent: the SQL or the file is wrong.
        Neither quotes a value of a row, unless the database is frank.
    """

    def __init__(self, connection: DuckDBPyConnection, path: Path | None, *, frank: bool = False) -> None:
        self._connection = connection
        self._frank = frank
        self.path = path

    @classmethod
    def candidate(
        cls, path: Path, *, memory_limit: str | None = None, threads: int | None = None
    ) -> Database:
        """Open a file for writing, made if it isn't there. Nobody else may have it open.

        Args:
            memory_limit: as DuckDB reads it, e.g. `2GB`; what is more goes to a folder beside the file.
        """
        settings: dict[str, str] = {
            "preserve_insertion_order": "false",
            "storage_compatibility_version": _STORAGE,
        }
        if memory_limit is not None:
            settings["memory_limit"] = memory_limit
        if threads is not None:
            settings["threads"] = str(threads)
        return cls._connect(str(path), path, settings)

    @classmethod
    def generation(cls, path: Path, *, frank: bool = False, memory_limit: str | None = None) -> Database:
        """Open a file for reading: any number of readers, in any processes, and no way out of the file.

        SQL can reach no other file, no network, no extension and no setting. What it makes is temporary.

        Args:
            frank: errors quote values; for somebody's own questions, whose answers go to nobody else.
            memory_limit: as DuckDB reads it, e.g. `256MB`. With one, nothing goes to disk, and one thread works.
        """
        settings = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        if memory_limit is None:
            settings["temp_directory"] = _spill_folder()
        else:
            settings |= {"memory_limit": memory_limit, "temp_directory": "", "threads": "1"}
        opened = cls._connect(":memory:", path, settings, frank=frank)
        try:
            # Attached, not opened: DuckDB gives two openers of one file in one process one shared instance,
            # and the second could no longer set what the first has locked.
            quoted = str(path.resolve()).replace("'", "''")
            opened.run(f"ATTACH '{quoted}' AS {_GENERATION} (READ_ONLY)")
            opened.run(f"USE {_GENERATION}")
            opened.run("SET enable_external_access = false")
            opened.run("SET lock_configuration = true")
        except DrpError:
            opened.close()
            raise
        return opened

    @classmethod
    def memory(cls, *, memory_limit: str | None = None) -> Database:
        """A database of its own that is gone when it is closed."""
        settings = {"temp_directory": _spill_folder()}
        if memory_limit is not None:
            settings["memory_limit"] = memory_limit
        return cls._connect(":memory:", None, settings)

    @classmethod
    def _connect(
        cls, address: str, path: Path | None, settings: Mapping[str, str], *, frank: bool = False
    ) -> Database:
        import duckdb

        # Without this, a table that is missing is looked for among the caller's Python variables.
        config: dict[str, str | bool | int | float | list[str]] = {
            "python_enable_replacements": "false",
            **settings,
        }
        with translated(f"could not open {path or 'a database in memory'}"):
            connection = duckdb.connect(address, config=config)
            connection.execute("SET TimeZone = 'UTC'")
        return cls(connection, path, frank=frank)

    def run(self, sql: str, parameters: Sequence[object] = ()) -> None:
        with self._translated(sql):
            self._connection.execute(sql, list(parameters))

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._translated(sql):
            return self._connection.execute(sql, list(parameters)).fetchall()

    def row(self, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        with self._translated(sql):
            return self._connection.execute(sql, list(parameters)).fetchone()

    def value(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        """The first column of the first row; None if there is no row."""
        row = self.row(sql, parameters)
        return None if row is None else row[0]

    def arrow(self, sql: str, *, batch_rows: int = 100_000) -> pa.RecordBatchReader:
        """The result as a stream of record batches; valid until the next statement.

        Raises:
            Permanent: also if the statement has no result, or a column that Arrow would tell wrongly.
        """
        import pyarrow as pa

        with self._translated(sql):
            relation = self._connection.sql(sql)
            if relation is None:
                raise Permanent("the statement has no result", fix="a query: SELECT …")
            _ensure_exact(relation)
            reader = relation.to_arrow_reader(batch_rows)
        return pa.RecordBatchReader.from_batches(reader.schema, self._read(reader, sql))

    def ensure_query(self, sql: str) -> None:
        """
        Raises:
            Permanent: that is not one statement, or one that does more than to read.
        """
        with self._translated(sql):
            kinds = [statement.type.name for statement in self._connection.extract_statements(sql)]
        if len(kinds) != 1:
            what = f"{len(kinds)} statements" if kinds else "no statement"
            raise Permanent(what, why="one is answered at a time", fix="SELECT …")
        if kinds[0] not in _QUERIES:
            raise Permanent(f"{kinds[0]} is not answered", why="only what reads is", fix="SELECT …")

    def _read(self, reader: pa.RecordBatchReader, sql: str) -> Iterator[pa.RecordBatch]:
        with translated_stream(_first_words(sql), sql=sql, frank=self._frank):
            yield from reader

    def columns(self, relation: str) -> dict[str, str]:
        """Column name to DuckDB type, in order; empty if there is none. The relation is named as in SQL."""
        with self._translated(f"DESCRIBE {relation}"):
            import duckdb

            try:
                found = self._connection.execute(f"DESCRIBE FROM {relation}").fetchall()
            except duckdb.CatalogException:
                return {}
        return {row[0]: row[1] for row in found}

    @contextmanager
    def exposed(self, name: str, data: pa.RecordBatchReader | pa.Table) -> Iterator[None]:
        """Let SQL read `data` as the relation `name`; a reader is read once."""
        with translated(f"could not read {name}"):
            self._connection.register(name, data)
        try:
            yield
        finally:
            self._connection.unregister(name)

    def _translated(self, sql: str) -> AbstractContextManager[None]:
        return translated(_first_words(sql), sql=sql, frank=self._frank)

    def interrupt(self) -> None:
        """Stop the statement that another thread runs here: it raises Transient there."""
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


def _ensure_exact(relation: DuckDBPyRelation) -> None:
    """
    Raises:
        Permanent: a column has values that Arrow has no type for, and DuckDB would hand over as others.
    """
    for name, kind in zip(relation.columns, relation.types, strict=True):
        for inexact in _INEXACT:
            if inexact in str(kind):
                raise Permanent(
                    f"column {name} can not be told exactly", why=f"it is {kind}", fix="cast it to VARCHAR"
                )


def _first_words(sql: str) -> str:
    """Enough of a statement to find it by; never its values, for those are parameters."""
    lines = [line.strip() for line in sql.splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith("--"))
    return text if len(text) <= 80 else text[:79] + "…"


def _spill_folder() -> str:
    return str(Path(tempfile.gettempdir()) / f"drp-duckdb-{os.getpid()}")
