"""What DuckDB refused, as one of the two errors of the house, without a value of any row.

DuckDB quotes the value that it could not convert, parse or keep apart. Its own words are passed on only where
they speak of the statement or the file; else its class of error and the column are all that is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from libs.errors import Permanent, Transient

__all__ = ["translated", "translated_stream"]

_HELPED_BY_WAITING: Final = frozenset(
    {
        "IO Error",
        "Out of Memory Error",
        "TransactionContext Error",
        "INTERRUPT Error",
        "Connection Error",
    }
)
_OF_NO_ROW: Final = frozenset(
    {
        "IO Error",
        "Out of Memory Error",
        "INTERRUPT Error",
        "Connection Error",
        "Binder Error",
        "Catalog Error",
        "Parser Error",
        "Permission Error",
    }
)
_KIND: Final = re.compile(r"[A-Z][A-Za-z ]{1,30} Error(?=:)")
_COLUMN: Final = re.compile(r"casting from source column (\w+)")


@contextmanager
def translated(what: str, *, sql: str = "", frank: bool = False) -> Iterator[None]:
    """DuckDB's errors come out as Transient or Permanent.

    Args:
        what: what failed, in one clause without values.
        sql: the statement; only columns that it names are named.
        frank: say all that DuckDB says, values too: to somebody who may see every row.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        passing = isinstance(
            error,
            duckdb.IOException
            | duckdb.OutOfMemoryException
            | duckdb.TransactionException
            | duckdb.InterruptException
            | duckdb.ConnectionException,
        )
        why = str(error) if frank else _said(str(error), type(error).__name__, sql)
        # `from None`: a traceback in a log would quote the original.
        raise (Transient if passing else Permanent)(what, why=why) from None


@contextmanager
def translated_stream(what: str, *, sql: str = "", frank: bool = False) -> Iterator[None]:
    """The same for a stream of batches that breaks off: Arrow then brings DuckDB's words in an error of its own."""
    import pyarrow as pa

    try:
        with translated(what, sql=sql, frank=frank):
            yield
    except (OSError, pa.ArrowException) as error:
        found = _KIND.match(str(error))
        passing = found is not None and found[0] in _HELPED_BY_WAITING
        why = str(error) if frank else _said(str(error), type(error).__name__, sql)
        raise (Transient if passing else Permanent)(what, why=why) from None


def _said(text: str, kind: str, sql: str) -> str:
    found = _KIND.match(text)
    if found is None:
        return kind
    if found[0] in _OF_NO_ROW:
        return text
    # A name that the statement itself holds is a name, whatever else the text quotes.
    columns = [name for name in _COLUMN.findall(text) if re.search(rf"\b{re.escape(name)}\b", sql)]
    return f"{found[0]} (column {columns[-1]})" if columns else found[0]
