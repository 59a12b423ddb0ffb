"""RAW, quarantine and ledger of one dataset. Every statement works on a whole landing, never on one event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Final
from uuid import UUID

from libs.adapters.postgres import Connection, Postgres, PostgresRefused, copy_rows
from libs.adapters.telemetry import trace_id_of
from libs.datasets import Dataset, quoted
from libs.errors import Transient
from libs.pipeline.decode import LandedRow, Refused, raw_copy_columns
from services.ingestor.domain import Arrived, Leftover, storable_text

__all__ = ["Landed", "RawStore"]

QUARANTINE_COLUMNS: Final = (
    "dataset",
    "stream",
    "stream_entry_id",
    "stream_position",
    "batch_id",
    "disposition",
    "reason",
    "detail",
    "field",
    "source_system",
    "event_id",
    "dataschema",
    "trace_id",
    "original",
)

_TAKEN: Final = "23505"
_AFTER_REPEATS: Final = 8
"""Landings that bring nothing RAW holds before it is again assumed that the next won't either."""


@dataclass(frozen=True, slots=True)
class Landed:
    """What a landing added to RAW: how many rows, and the first and last of their event times."""

    accepted: int
    first_event_time: datetime | None
    last_event_time: datetime | None


class RawStore:
    """RAW, quarantine and ledger of one dataset. Methods take the transaction they are part of."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.columns = raw_copy_columns(dataset)
        self._event_time = itemgetter(self.columns.index("event_time"))
        self._suspect = 0
        self._temporary = f"landing_{dataset.name}"
        landing, listed = quoted(self._temporary), ", ".join(quoted(column) for column in self.columns)
        self._create = f"""
            CREATE TEMPORARY TABLE IF NOT EXISTS {landing} ON COMMIT DELETE ROWS
            AS SELECT {listed} FROM {dataset.raw_table} WITH NO DATA
        """
        self._insert = f"""
            -- one row: what was accepted. The order is the one in which every replica locks identities
            WITH accepted AS (
                INSERT INTO {dataset.raw_table} (batch_id, {listed})
                SELECT $1, {listed} FROM {landing}
                ORDER BY source_system COLLATE "C", event_id COLLATE "C", ctid
                ON CONFLICT (source_system, event_id) DO NOTHING
                RETURNING event_time
            )
            SELECT count(*) AS accepted, min(event_time) AS first, max(event_time) AS last FROM accepted
        """
        self._classify = f"""
            -- one row per entry that brought what RAW already held under the same identity
            SELECT entry_id, count(*) FILTER (WHERE same) AS duplicates,
                   coalesce(array_agg(position) FILTER (WHERE NOT same), '{{}}') AS conflicts
            FROM (
                SELECT l.stream_entry_id AS entry_id, l.stream_position AS position,
                       l.raw_payload = r.raw_payload AS same
                FROM {landing} l
                CROSS JOIN LATERAL (
                    SELECT stream_entry_id, stream_position, raw_payload FROM {dataset.raw_table}
                    WHERE source_system = l.source_system AND event_id = l.event_id LIMIT 1
                ) r
                WHERE (l.stream_entry_id, l.stream_position) <> (r.stream_entry_id, r.stream_position)
            ) AS already
            GROUP BY entry_id
        """

    async def claim(self, connection: Connection, arrived: Sequence[Arrived], batch_id: UUID) -> set[str]:
        """Note the entries in the ledger; returns the ids of those that hadn't landed before.

        Their counts are what they will be if RAW holds none of their events yet; see settle.
        """
        rows = await connection.fetch(
            """
            INSERT INTO ops.entries (stream, entry_id, batch_id, events, accepted, quarantined, dead_lettered)
            SELECT $1, entry_id, $2, accepted + quarantined + dead, accepted, quarantined, dead
            FROM unnest($3::text[], $4::int[], $5::int[], $6::int[])
                AS e (entry_id, accepted, quarantined, dead)
            ORDER BY entry_id
            ON CONFLICT DO NOTHING
            RETURNING entry_id
            """,
            self.dataset.stream,
            batch_id,
            [entry.id for entry in arrived],
            [len(entry.rows) for entry in arrived],
            [len(entry.refused) for entry in arrived],
            [len(entry.dead) for entry in arrived],
        )
        return {row["entry_id"] for row in rows}

    async def land(self, connection: Connection, rows: Sequence[LandedRow], batch_id: UUID) -> Landed:
        """Add the rows whose identity RAW lacks. Rows come in the one order in which identities are taken.

        Mostly that is all of them, and half the work if it is assumed: what RAW refuses then costs a landing
        half done, so after one that brought repeats the next few are not assumed to be without.

        Raises:
            PostgresRefused: a value doesn't fit; blames_data is set.
        """
        landed = None if self._suspect else await self._land_as_new(connection, rows, batch_id)
        if landed is None:
            landed = await self._land_new_ones(connection, rows, batch_id)
            self._suspect = _AFTER_REPEATS if landed.accepted < len(rows) else max(0, self._suspect - 1)
        return landed

    async def _land_as_new(
        self, connection: Connection, rows: Sequence[LandedRow], batch_id: UUID
    ) -> Landed | None:
        """Add all rows, or none and return None if RAW or another row has the identity of one."""
        schema, _, table = self.dataset.raw_table.partition(".")
        complete = ((*row, batch_id) for row in rows)
        try:
            async with connection.transaction():
                await copy_rows(connection, table, (*self.columns, "batch_id"), complete, schema=schema)
        except PostgresRefused as refused:
            if refused.sqlstate != _TAKEN:
                raise
            return None
        times = [self._event_time(row) for row in rows]
        return Landed(len(rows), min(times, default=None), max(times, default=None))

    async def _land_new_ones(
        self, connection: Connection, rows: Sequence[LandedRow], batch_id: UUID
    ) -> Landed:
        await connection.execute(self._create)
        await copy_rows(connection, self._temporary, self.columns, rows)
        row = await connection.fetchrow(self._insert, batch_id)
        assert row is not None  # noqa: S101 an aggregate always gives a row
        return Landed(row["accepted"], row["first"], row["last"])

    async def leftovers(self, connection: Connection, expected: int) -> list[Leftover]:
        """What of the rows just offered RAW already held; expected is how many they are.

        Raises:
            Transient: RAW changed in between.
        """
        # RAW may have been empty when the plan was made, which is kept: it must never be to read all of RAW.
        await connection.execute("SET LOCAL enable_seqscan = off")
        rows = await connection.fetch(self._classify)
        found = [Leftover(row["entry_id"], row["duplicates"], row["conflicts"]) for row in rows]
        if sum(leftover.duplicates + len(leftover.conflicts) for leftover in found) != expected:
            raise Transient("RAW changed while a landing was classified")
        return found

    async def settle(self, connection: Connection, leftovers: Sequence[Leftover]) -> None:
        """Correct the counts of the entries that weren't all new."""
        await connection.execute(
            """
            UPDATE ops.entries e
            SET accepted = accepted - duplicates - conflicts,
                duplicate = duplicates,
                quarantined = quarantined + conflicts
            FROM unnest($2::text[], $3::int[], $4::int[]) AS l (id, duplicates, conflicts)
            WHERE e.stream = $1 AND e.entry_id = l.id
            """,
            self.dataset.stream,
            [leftover.entry_id for leftover in leftovers],
            [leftover.duplicates for leftover in leftovers],
            [len(leftover.conflicts) for leftover in leftovers],
        )

    async def quarantine(
        self,
        connection: Connection,
        slots: Sequence[tuple[Arrived, Refused]],
        batch_id: UUID,
        disposition: str,
    ) -> None:
        """Keep slots that RAW can not have, with their bytes. disposition: quarantined or dead_lettered."""
        rows = [
            (
                self.dataset.name,
                self.dataset.stream,
                entry.id,
                refused.position,
                batch_id,
                disposition,
                refused.reason,
                storable_text(refused.detail),
                storable_text(refused.field),
                storable_text(refused.source_system),
                storable_text(refused.event_id),
                storable_text(refused.dataschema),
                trace_id_of(refused.traceparent) or trace_id_of(entry.traceparent),
                refused.original,
            )
            for entry, refused in slots
        ]
        await copy_rows(connection, "quarantine", QUARANTINE_COLUMNS, rows, schema="raw")

    async def probe(self, postgres: Postgres, rows: Sequence[LandedRow]) -> None:
        """See whether Postgres takes the rows, and undo it.

        Raises:
            PostgresRefused: it doesn't.
        """
        async with postgres.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await self.land(connection, rows, UUID(int=0))
            finally:
                await transaction.rollback()

    async def has_landed(self, postgres: Postgres, entry_id: str) -> bool:
        found = await postgres.fetchval(
            "SELECT true FROM ops.entries WHERE stream = $1 AND entry_id = $2", self.dataset.stream, entry_id
        )
        return bool(found)
