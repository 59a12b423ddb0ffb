"""Which events of a batch stand on one side of the ledger only: the ids behind a difference of counts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from libs.datasets import quoted
from libs.errors import Permanent
from libs.operations.archive import document_lines
from libs.pipeline.archive import BatchManifest, decode_manifest

if TYPE_CHECKING:
    from libs.adapters.objects import Objects
    from libs.adapters.postgres import Postgres
    from libs.adapters.warehouse import Database
    from libs.datasets import Dataset

__all__ = ["AT_MOST", "Apart", "Entry", "Event", "against_archive", "against_generation", "entries", "events"]

AT_MOST: Final = 100

_ENTRIES: Final = """
-- one row per stream entry of the batch, beside its rows; those that differ first
SELECT coalesce(e.entry_id, r.entry_id, q.entry_id) AS entry, e.landed_at, coalesce(e.events, 0) AS events,
       coalesce(e.accepted, 0) AS accepted, coalesce(e.duplicate, 0) AS duplicate,
       coalesce(e.quarantined + e.dead_lettered, 0) AS refused,
       coalesce(r.rows, 0) AS raw_rows, coalesce(q.rows, 0) AS quarantine_rows
FROM (SELECT * FROM ops.entries WHERE batch_id = $1) e
FULL JOIN (
    SELECT stream_entry_id AS entry_id, count(*) AS rows FROM {raw} WHERE batch_id = $1 GROUP BY 1
) r ON r.entry_id = e.entry_id
FULL JOIN (
    SELECT stream_entry_id AS entry_id, count(*) AS rows FROM raw.quarantine WHERE batch_id = $1 GROUP BY 1
) q ON q.entry_id = coalesce(e.entry_id, r.entry_id)
ORDER BY (e.accepted, e.quarantined + e.dead_lettered) IS DISTINCT FROM (coalesce(r.rows, 0), coalesce(q.rows, 0)) DESC,
         e.landed_at, split_part(coalesce(e.entry_id, r.entry_id, q.entry_id), '-', 1)::numeric,
         split_part(coalesce(e.entry_id, r.entry_id, q.entry_id), '-', 2)::numeric
LIMIT $2
"""

_EVENTS: Final = """
-- one row per event of the batch in RAW, in the order of landing; + 0, else the planner may walk all of RAW by its key
SELECT source_system AS source, event_id, stream_entry_id || '/' || stream_position AS slot, {key}::text AS key
FROM {raw} WHERE batch_id = $1 ORDER BY id + 0 LIMIT $2
"""

_REFUSED: Final = """
-- one row per slot of the batch in quarantine
SELECT source_system AS source, event_id, stream_entry_id || '/' || stream_position AS slot
FROM raw.quarantine WHERE batch_id = $1 ORDER BY id
"""

_MANIFEST: Final = """
-- at most one row: the object that says what is archived of the batch
SELECT key FROM ops.archive_objects WHERE batch_id = $1 AND kind = 'manifest'
"""

_CARRIED: Final = """
-- one row per event of the batch that stands in staging, or is rejected there
SELECT source_system, event_id FROM {staging} WHERE batch_id = ?
UNION ALL SELECT source_system, event_id FROM {rejected} WHERE batch_id = ?
"""

_NEWER: Final = """
-- one row per key that staging, or what is rejected there, has a version of
SELECT {key}::VARCHAR FROM {staging} WHERE {key}::VARCHAR IN (SELECT unnest(?::VARCHAR[]))
UNION SELECT {key}::VARCHAR FROM {rejected} WHERE {key}::VARCHAR IN (SELECT unnest(?::VARCHAR[]))
"""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event by its identity; slot: `stream entry/position`, None where a side doesn't keep it."""

    source: str | None
    event_id: str | None
    slot: str | None


class Apart(msgspec.Struct, frozen=True, kw_only=True):
    """Events that one side has and the other lacks: count of them, the first AT_MOST named."""

    there: str
    lacking: str
    count: int
    events: list[Event]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A stream entry as it landed, beside the rows that are there for it. landed_at: None: the ledger lacks it."""

    entry: str
    landed_at: datetime | None
    events: int
    accepted: int
    duplicate: int
    refused: int
    raw_rows: int
    quarantine_rows: int

    @property
    def differs(self) -> bool:
        return (self.accepted, self.refused) != (self.raw_rows, self.quarantine_rows)


async def entries(
    postgres: Postgres, dataset: Dataset, batch: uuid.UUID, *, limit: int = AT_MOST
) -> list[Entry]:
    """Those whose rows differ first."""
    rows = await postgres.fetch(_ENTRIES.format(raw=dataset.raw_table), batch, limit)
    return [Entry(**dict(row)) for row in rows]


async def events(
    postgres: Postgres, dataset: Dataset, batch: uuid.UUID, *, limit: int = AT_MOST
) -> list[Event]:
    """The first events of the batch in RAW."""
    return [event for event, _ in await _in_raw(postgres, dataset, batch, limit)]


async def against_archive(
    postgres: Postgres, objects: Objects, dataset: Dataset, batch: uuid.UUID
) -> list[Apart]:
    """What only Postgres, or only the batch's objects have: reads these whole. One that has no manifest has no object.

    Raises:
        Transient, Permanent: the objects could not be read, or are not what was stored.
    """
    key = await postgres.fetchval(_MANIFEST, batch)
    documents = [] if key is None else decode_manifest(await objects.get(key), BatchManifest).objects
    stored: dict[str, dict[str, Event]] = {"raw": {}, "quarantine": {}}
    for document in documents:
        async for lines in document_lines(objects, document):
            stored[document.kind] |= {event.slot or "": event for event in map(_archived, lines)}
    accepted = [event for event, _ in await _in_raw(postgres, dataset, batch, None)]
    refused = [Event(**dict(row)) for row in await postgres.fetch(_REFUSED, batch)]
    found = []
    for name, rows, said in (("RAW", accepted, stored["raw"]), ("quarantine", refused, stored["quarantine"])):
        here = {event.slot or "": event for event in rows}
        found.append(_apart("the archive", name, (each for slot, each in said.items() if slot not in here)))
        found.append(_apart(name, "the archive", (each for slot, each in here.items() if slot not in said)))
    return [each for each in found if each.count]


async def against_generation(
    postgres: Postgres, generation: Database, dataset: Dataset, batch: uuid.UUID
) -> list[Apart]:
    """What only RAW, or only the generation has of the batch. What a later version supersedes is not missing."""
    rows = await _in_raw(postgres, dataset, batch, None)
    carried, newer = await asyncio.to_thread(
        _carried, generation, dataset, batch, {key: None for _, key in rows}
    )
    here = {(event.source, event.event_id) for event, _ in rows}
    lost = (
        event for event, key in rows if (event.source, event.event_id) not in carried and key not in newer
    )
    alone = (
        Event(source=source, event_id=event_id, slot=None)
        for source, event_id in sorted(carried)
        if (source, event_id) not in here
    )
    found = [_apart("the generation", "RAW", alone), _apart("RAW", "the generation", lost)]
    return [each for each in found if each.count]


def _carried(
    generation: Database, dataset: Dataset, batch: uuid.UUID, keys: Mapping[str, None]
) -> tuple[set[tuple[str, str]], set[str]]:
    """The identities that it has of the batch, and those of the keys that it has any version of."""
    names = {"staging": dataset.staging_table, "rejected": dataset.rejected_table}
    carried = generation.rows(_CARRIED.format(**names), [batch, batch])
    newer = generation.rows(_NEWER.format(key=quoted(dataset.key.name), **names), [list(keys), list(keys)])
    return {(source, event_id) for source, event_id in carried}, {key for (key,) in newer}


async def _in_raw(
    postgres: Postgres, dataset: Dataset, batch: uuid.UUID, limit: int | None
) -> list[tuple[Event, str]]:
    """Events with the key of their rows."""
    sql = _EVENTS.format(raw=dataset.raw_table, key=quoted(dataset.key.name))
    return [
        (Event(source=row["source"], event_id=row["event_id"], slot=row["slot"]), row["key"])
        for row in await postgres.fetch(sql, batch, limit)
    ]


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    id: str | None = None
    source: str | None = None


class _Line(msgspec.Struct, frozen=True, gc=False):
    """A line of either document, as far as it names an event."""

    slot: str
    envelope: _Envelope | None = None
    source: str | None = None
    id: str | None = None


_line: Final = msgspec.json.Decoder(_Line).decode


def _archived(text: bytes) -> Event:
    try:
        line = _line(text)
    except msgspec.MsgspecError as error:
        raise Permanent(
            "a line of the archive can not be read", why=str(error), fix="drp archive verify"
        ) from error
    named = line.envelope or line
    return Event(source=named.source, event_id=named.id, slot=line.slot)


def _apart(there: str, lacking: str, found: Iterable[Event]) -> Apart:
    listed = sorted(found, key=_place)
    return Apart(there=there, lacking=lacking, count=len(listed), events=listed[:AT_MOST])


def _place(event: Event) -> tuple[list[int], str]:
    """Where it stands in the stream; what has no such place follows its identity."""
    digits = (event.slot or "").replace("/", "-").split("-")
    return [int(each) for each in digits if each.isdecimal()], f"{event.source} {event.event_id}"
