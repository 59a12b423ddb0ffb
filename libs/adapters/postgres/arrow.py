"""Postgres as Arrow columns, for reading many rows without a Python object for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from libs.adapters.postgres.errors import named

if TYPE_CHECKING:
    import pyarrow

__all__ = ["read_arrow"]


@contextmanager
def read_arrow(url: str, sql: str, parameters: Sequence[object] = ()) -> Iterator[pyarrow.RecordBatchReader]:
    """The rows of sql as a stream of record batches, while the block lasts. Blocks: call it in a thread.

    Select numeric columns `::text`: as numeric they arrive as opaque values. Parameters are `$1`, `$2`, ….

    Raises:
        PostgresUnavailable, PostgresRefused: also from reading the stream inside the block.
    """
    # half a second that only those who read columns pay
    import adbc_driver_manager
    from adbc_driver_postgresql import dbapi

    try:
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(sql, tuple(parameters) or None)
            with cursor.fetch_record_batch() as reader:
                yield reader
    except adbc_driver_manager.Error as error:
        # The rest of the text repeats the query.
        said = str(error).partition("\n")[0]
        raise named(error.sqlstate or None, said, type(error).__name__) from error
    except OSError as error:
        # A connection lost while the stream is read comes out of pyarrow, which knows no sqlstate.
        if "libpq" not in str(error):
            raise
        raise named(None, str(error).strip(), type(error).__name__) from error
