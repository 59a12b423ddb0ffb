"""RAW as it is and as the archive says, side by side in DuckDB; and what differs between two generations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from libs.adapters.postgres.arrow import read_arrow
from libs.adapters.warehouse import Database
from libs.datasets import ColumnType, Dataset, quoted
from libs.errors import Permanent
from libs.pipeline.archive import Line, event_of, read_lines
from libs.pipeline.decode import Decoder, raw_copy_columns
from libs.pipeline.hashing import landed_hash_columns

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ARCHIVED", "LIVE", "Landings", "generation_differences"]

LIVE: Final = "live"
ARCHIVED: Final = "archived"

_ENVELOPE: Final = ("event_type", "subject", "dataschema", "traceparent")
_NEEDED: Final[tuple[str, ...]] = ("specversion", "id", "source", "type")
_OWN_COLUMNS: Final = frozenset({*_NEEDED, "time", "subject", "dataschema", "traceparent", "drporigin"})
_AGAIN: Final = {"drporigin": msgspec.Raw(b'"replay"')}
_PER_DECODE: Final = 500
_ENTRY: Final = "0-0"

# Two JSON texts that differ in the order of their names, or in spaces, are one.
_SORTED: Final = """list_sort(map_entries(from_json(extensions, '"MAP(VARCHAR, JSON)"')))::VARCHAR"""


class Landings:
    """Two tables of landed rows, `live` and `archived`, in a database of their own. Blocks; one thread at a time.

    Their columns: the contract's, event_id, source_system, event_time, batch_id, then raw_payload (jsonb's
    text), event_type, subject, dataschema, traceparent, extensions.
    """

    def __init__(self, database: Database, dataset: Dataset) -> None:
        self.database = database
        self.dataset = dataset
        self.columns = (
            *dataset.landed_columns,
            *((name, "VARCHAR") for name in ("raw_payload", *_ENVELOPE, "extensions")),
        )
        self.compared = (*landed_hash_columns(dataset), "raw_payload", *_ENVELOPE, "extensions")
        self._decoder = Decoder(dataset)
        self._copied = raw_copy_columns(dataset)
        listed = ", ".join(f"{quoted(name)} {kind}" for name, kind in self.columns)
        for table in (LIVE, ARCHIVED):
            database.run(f"CREATE TABLE {table} ({listed})")

    def load_live(self, url: str, batches: Sequence[UUID], told: Callable[[int], None]) -> None:
        """Read RAW's rows of the batches.

        Raises:
            Transient, Permanent: of Postgres.
        """
        chosen = ", ".join(f"'{batch}'::uuid" for batch in batches) or "NULL"
        listed = [
            f"{quoted(name)}::text AS {quoted(name)}" if _arrives_as_text(name, kind) else quoted(name)
            for name, kind in self.columns
        ]
        sql = f"SELECT {', '.join(listed)} FROM {self.dataset.raw_table} WHERE batch_id IN ({chosen})"
        with read_arrow(url, sql) as reader:
            for piece in reader:
                self._insert(LIVE, piece)
                told(piece.num_rows)

    def load_archived(self, batch: UUID, lines: Sequence[bytes], known: Sequence[str]) -> list[str]:
        """Read lines of a batch's document, as the ingestor would; what could not be read of them.

        Args:
            known: the contract's columns when the lines were archived. A column that came later was not read
                from these events when they landed either.
        """
        problems: list[str] = []
        rows: list[tuple[Any, ...]] = []
        told: list[Line] = []
        for first in range(0, len(lines), _PER_DECODE):
            read = read_lines(lines[first : first + _PER_DECODE])
            events = [event_of(_bare(line), _AGAIN, self.dataset) for line in read]
            slots = self._decoder.decode(b"[" + b",".join(events) + b"]", entry_id=_ENTRY)
            problems += [
                f"batch {batch}: event {one.event_id} from {one.source_system} is refused: {one.reason}"
                for one in slots.refused
            ]
            rows += slots.rows
            told += [read[row[-1]] for row in slots.rows]
        if rows:
            self._insert(ARCHIVED, self._table(batch, rows, told, known))
        return problems

    def count(self, table: str) -> int:
        ((rows,),) = self.database.rows(f"SELECT count(*) FROM {table}")
        return int(rows)

    def archived_rows(self) -> Iterator[pa.RecordBatch]:
        """The archived rows as a build takes them."""
        listed = ", ".join(
            f"{quoted(name)}::VARCHAR AS {quoted(name)}" if kind == "UUID" else quoted(name)
            for name, kind in self.dataset.landed_columns
        )
        yield from self.database.arrow(f"SELECT {listed} FROM {ARCHIVED}")

    def differences(self, limit: int) -> list[str]:
        """The events that are not the same on both sides, by their identity: at most limit."""
        columns = [name for name in self.compared if name not in {"source_system", "event_id"}]
        differing = ", ".join(
            f"CASE WHEN l.{quoted(name)} IS DISTINCT FROM a.{quoted(name)} THEN '{name}' END"
            for name in columns
        )
        rows = self.database.rows(
            f"""
            -- one row per event that differs
            SELECT source_system, event_id, alone, array_to_string(list_filter(names, lambda n: n IS NOT NULL), ', ')
            FROM (
                SELECT source_system, event_id,
                       CASE WHEN a.batch_id IS NULL THEN 'only in RAW'
                            WHEN l.batch_id IS NULL THEN 'only in the archive' END AS alone,
                       [{differing}] AS names
                FROM {LIVE} l FULL JOIN {ARCHIVED} a USING (source_system, event_id)
            )
            WHERE alone IS NOT NULL OR len(list_filter(names, lambda n: n IS NOT NULL)) > 0
            ORDER BY source_system, event_id LIMIT {limit}
            """
        )
        return [
            f"event {event} from {source} {alone or f'differs in {names}'}"
            for source, event, alone, names in rows
        ]

    def _insert(self, table: str, piece: pa.RecordBatch | pa.Table) -> None:
        import pyarrow as pa

        typed = ", ".join(
            f"CASE WHEN extensions IS NOT NULL THEN {_SORTED} END"
            if name == "extensions"
            else f"CAST({quoted(name)} AS {kind})"
            for name, kind in self.columns
        )
        whole = piece if isinstance(piece, pa.Table) else pa.Table.from_batches([piece])
        with self.database.exposed("piece", whole):
            self.database.run(f"INSERT INTO {table} SELECT {typed} FROM piece")

    def _table(
        self, batch: UUID, rows: Sequence[tuple[Any, ...]], lines: Sequence[Line], known: Sequence[str]
    ) -> pa.Table:
        """Contract's columns and identity as they were decoded, the rest as the lines say."""
        import pyarrow as pa

        values = dict(zip(self._copied, zip(*rows, strict=True), strict=True))
        columns: dict[str, Any] = {}
        for column in self.dataset.columns:
            kind = _arrow_type(column.type)
            if column.name not in known:
                columns[column.name] = pa.nulls(len(rows), kind)
            elif column.type is ColumnType.NUMBER:
                columns[column.name] = pa.array([_plain(value) for value in values[column.name]], kind)
            else:
                columns[column.name] = pa.array(values[column.name], kind)
        for name in ("event_id", "source_system", "event_type"):
            columns[name] = pa.array(values[name], pa.string())
        columns["batch_id"] = pa.array([str(batch)] * len(rows), pa.string())
        columns["event_time"] = pa.array([_said(line, "time") for line in lines], pa.string())
        columns["raw_payload"] = pa.array([str(line.data, "utf-8") for line in lines], pa.string())
        for name in ("subject", "dataschema", "traceparent"):
            columns[name] = pa.array([_said(line, name) for line in lines], pa.string())
        columns["extensions"] = pa.array([_extensions(line) for line in lines], pa.string())
        return pa.table(columns)


def generation_differences(dataset: Dataset, live: Path, rebuilt: Path, layer: str, limit: int) -> list[str]:
    """What differs between two generations' files in a schema (`staging` or `analytics`): at most limit rows,
    by the key of staging and by the first column of a mart."""
    with Database.memory() as database:
        for name, path in ((LIVE, live), ("rebuilt", rebuilt)):
            quoted_path = str(path.resolve()).replace("'", "''")
            database.run(f"ATTACH '{quoted_path}' AS {name} (READ_ONLY)")
        if layer == "staging":
            tables = {dataset.staging_table: dataset.key.name, dataset.rejected_table: dataset.key.name}
        else:
            tables = {f"analytics.{quoted(mart)}": "" for mart in sorted(dataset.marts)}
        found: list[str] = []
        for table, key in tables.items():
            found += _table_differences(database, table, key, limit - len(found))
        return found


def _table_differences(database: Database, table: str, key: str, limit: int) -> list[str]:
    columns = [name for name in database.columns(f"{LIVE}.{table}") if name != "batch_id"]
    theirs = [name for name in database.columns(f"rebuilt.{table}") if name != "batch_id"]
    if set(columns) != set(theirs):
        return [f"{table} has other columns: {', '.join(sorted(set(columns) ^ set(theirs)))}"]
    listed = ", ".join(quoted(name) for name in columns)
    named = key or columns[0]
    rows = database.rows(
        f"""
        -- one row per row that stands on one side only
        SELECT side, key FROM (
            SELECT 'only live' AS side, {quoted(named)}::VARCHAR AS key
            FROM (SELECT {listed} FROM {LIVE}.{table} EXCEPT ALL SELECT {listed} FROM rebuilt.{table})
            UNION ALL
            SELECT 'only rebuilt', {quoted(named)}::VARCHAR
            FROM (SELECT {listed} FROM rebuilt.{table} EXCEPT ALL SELECT {listed} FROM {LIVE}.{table})
        ) ORDER BY key, side LIMIT {max(limit, 0)}
        """
    )
    return [f"{table}: {named} {value}: {side}" for side, value in rows]


def _bare(line: Line) -> Line:
    """What makes it an event, so that the archive's own attributes make none too large to be read."""
    envelope = {name: line.envelope[name] for name in _NEEDED if name in line.envelope}
    return Line(envelope=envelope, data=line.data, slot=line.slot)


def _said(line: Line, attribute: str) -> str | None:
    value = line.envelope.get(attribute)
    return None if value is None else msgspec.json.decode(value, type=str)


def _extensions(line: Line) -> str | None:
    others = {name: value for name, value in line.envelope.items() if name not in _OWN_COLUMNS}
    return msgspec.json.encode(others).decode() if others else None


def _arrives_as_text(name: str, kind: str) -> bool:
    """What Arrow has no type for: numeric, uuid and jsonb."""
    return kind == "UUID" or kind.startswith("DECIMAL") or name in {"raw_payload", "extensions"}


def _arrow_type(kind: ColumnType) -> Any:
    import pyarrow as pa

    types = {
        ColumnType.STRING: pa.string(),
        ColumnType.INTEGER: pa.int64(),
        ColumnType.NUMBER: pa.string(),
        ColumnType.BOOLEAN: pa.bool_(),
        ColumnType.DATE: pa.date32(),
        ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    }
    if kind not in types:
        raise Permanent(f"no Arrow type for {kind}")
    return types[kind]


def _plain(value: Decimal | None) -> str | None:
    """Without an exponent, as Postgres writes it."""
    return None if value is None else format(value, "f")
