"""How far the event-by-event trial of a poison entry has come. Each step commits by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from libs.adapters.postgres import Connection, Postgres, Row
from libs.datasets import Dataset
from libs.errors import Transient
from services.ingestor.domain import storable_text

__all__ = ["Attempt", "AttemptStore"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How far the event-by-event trial of an entry has come."""

    position: int
    tries: int
    fatal: dict[int, str]


class AttemptStore:
    """Grain: one row per entry on trial.

    An attempt is charged to the process that made it: only another process, after it, can tell that it died
    of it. What was merely interrupted, as by a lost connection, is tried again without counting.
    """

    def __init__(self, dataset: Dataset, postgres: Postgres, *, process: UUID) -> None:
        self.dataset = dataset
        self._postgres = postgres
        self._process = process

    async def begin(self, entry_id: str, position: int) -> Attempt:
        """Note, before it is tried, what of the entry is tried next; says how many processes tried it."""
        row = await self._postgres.fetchrow(
            """
            INSERT INTO ops.attempts AS a (stream, entry_id, position, process) VALUES ($1, $2, $3, $4)
            ON CONFLICT (stream, entry_id) DO UPDATE SET position = $3, process = $4, tried_at = now(),
                tries = CASE
                    WHEN a.position <> $3 THEN 1 WHEN a.process <> $4 THEN a.tries + 1 ELSE a.tries
                END
            RETURNING position, tries, fatal
            """,
            self.dataset.stream,
            entry_id,
            position,
            self._process,
        )
        if row is None:
            raise Transient("an attempt could not be noted", why="its row was deleted at the same time")
        return _attempt(row)

    async def last(self, entry_id: str) -> Attempt | None:
        row = await self._postgres.fetchrow(
            "SELECT position, tries, fatal FROM ops.attempts WHERE stream = $1 AND entry_id = $2",
            self.dataset.stream,
            entry_id,
        )
        return None if row is None else _attempt(row)

    async def give_up(self, entry_id: str, position: int, why: str) -> None:
        """Note that the event at position will be dead-lettered."""
        await self._postgres.execute(
            """
            UPDATE ops.attempts SET fatal = fatal || jsonb_build_object($3::text, $4::text)
            WHERE stream = $1 AND entry_id = $2
            """,
            self.dataset.stream,
            entry_id,
            str(position),
            storable_text(why),
        )

    async def forget(self, connection: Connection, entry_ids: Sequence[str]) -> None:
        await connection.execute(
            "DELETE FROM ops.attempts WHERE stream = $1 AND entry_id = ANY($2::text[])",
            self.dataset.stream,
            list(entry_ids),
        )


def _attempt(row: Row) -> Attempt:
    return Attempt(row["position"], row["tries"], {int(at): why for at, why in row["fatal"].items()})
