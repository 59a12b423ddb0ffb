"""The content hash of a relation: the same for the same rows, in whatever order they stand.

A row's text is made of its named columns, each written with its length, so that no two different rows have
the same text and NULL differs from the empty string. A relation's hash is the sum over its rows of the lower
64 bits of the text's MD5, as a decimal number. A sum, unlike XOR, sees a row that is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libs.adapters.warehouse import Database
from libs.datasets import Dataset, quoted
from libs.errors import Permanent

__all__ = ["analytics_hash", "landed_hash_columns", "relation_hash", "rows_hash", "staging_hash"]

_NOT_CONTENT: Final = frozenset({"batch_id"})
"""Which batch brought a row depends on how the events were cut into batches, not on what they say."""


def relation_hash(database: Database, relation: str, columns: Sequence[str], *, salt: str = "") -> str:
    """The content hash of `relation` (as SQL names it) over `columns` (plain names), in their order.

    Values count exactly: a DECIMAL with all its digits, a time with time zone by its UTC microseconds.

    Args:
        salt: begins every row's text, so that hashes of several relations can be added.

    Raises:
        Permanent: no such relation or column.
    """
    types = database.columns(relation)
    missing = [name for name in columns if name not in types]
    if missing:
        raise Permanent(f"{relation} has no column {', '.join(missing)}")
    row = " || ".join(["?", *(_framed(quoted(name), types[name]) for name in columns)])
    total = database.value(f"SELECT sum(md5_number_lower({row}))::VARCHAR FROM {relation}", [salt])
    return "0" if total is None else str(total)


def staging_hash(database: Database, dataset: Dataset) -> str:
    """The content hash of a generation's kept and rejected rows together."""
    tables = (dataset.staging_table, dataset.rejected_table)
    return str(sum(rows_hash(database, table, part_of=table) for table in tables))


def analytics_hash(database: Database, dataset: Dataset) -> str:
    """The content hash of all marts of a generation together."""
    marts = [f"analytics.{quoted(name)}" for name in dataset.marts]
    return str(sum(rows_hash(database, mart, part_of=mart) for mart in marts))


def landed_hash_columns(dataset: Dataset) -> tuple[str, ...]:
    """What a RAW row says wherever it is read from: the contract's columns, the event's identity and time."""
    return tuple(name for name, _ in dataset.landed_columns if name not in _NOT_CONTENT)


def rows_hash(database: Database, relation: str, *, part_of: str) -> int:
    """What the relation's rows add to the hash of the table `part_of`, which they stand in or will stand in.

    The table's hash is the sum of its rows', so one that gains and loses rows needs no look at all the others.
    """
    columns = sorted(name for name in database.columns(relation) if name not in _NOT_CONTENT)
    return int(relation_hash(database, relation, columns, salt=part_of))


def _framed(column: str, kind: str) -> str:
    """SQL for one value's text: its length in bytes, a colon, the value; a dash for NULL."""
    text = _text(column, kind)
    return f"coalesce(strlen({text}) || ':' || {text}, '-')"


def _text(column: str, kind: str) -> str:
    if kind == "VARCHAR":
        return column
    if kind.startswith("TIMESTAMP"):
        return f"epoch_us({column})::VARCHAR"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP")):
        return f"to_json({column})::VARCHAR"
    return f"{column}::VARCHAR"
