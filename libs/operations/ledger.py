"""published = accepted + duplicate + quarantined + dead-lettered + in flight: counted again, from two witnesses.

Redis knows how many entries a stream was ever given, Postgres which entries landed and what became of their
slots. An entry that neither Postgres has nor the stream still holds is unaccounted: the number that must be 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from libs.adapters.bus import Bus, Entry, StreamOverview
from libs.adapters.postgres import Postgres, Row
from libs.contracts.streams import DATASET_GROUPS
from libs.datasets import Dataset

__all__ = ["LedgerReport", "verify_ledger"]

_PROBLEMS_TOLD: Final = 20

_TOTALS: Final = """
-- one row: what became of the stream's entries; those that came after the look at Redis are left out of `entries`
SELECT
    count(*) FILTER (WHERE (split_part(entry_id, '-', 1)::bigint, split_part(entry_id, '-', 2)::bigint)
                           <= ($2::bigint, $3::bigint)) AS entries,
    coalesce(sum(events), 0)::bigint AS events,
    coalesce(sum(accepted), 0)::bigint AS accepted,
    coalesce(sum(duplicate), 0)::bigint AS duplicate,
    coalesce(sum(quarantined), 0)::bigint AS quarantined,
    coalesce(sum(dead_lettered), 0)::bigint AS dead_lettered,
    coalesce(array_agg(entry_id) FILTER (WHERE entry_id = ANY($4::text[])), '{}') AS landed_of_unhandled
FROM ops.entries WHERE stream = $1
"""

_BATCHES: Final = """
-- one row: the dataset's batches
SELECT count(*) AS batches, coalesce(sum(conflicts), 0)::bigint AS conflicts,
       coalesce(sum(accepted) FILTER (WHERE held_at IS NOT NULL), 0)::bigint AS held
FROM ops.batches WHERE dataset = $1
"""

_UNBALANCED: Final = """
-- one row per batch whose counts are not those of its entries, its RAW rows or its quarantined slots
WITH landed AS (
    SELECT batch_id, sum(accepted) AS accepted, sum(duplicate) AS duplicate, sum(quarantined) AS quarantined,
           sum(dead_lettered) AS dead_lettered
    FROM ops.entries WHERE stream = $2 GROUP BY batch_id
), kept AS (
    SELECT batch_id, count(*) AS rows FROM {raw_table} GROUP BY batch_id
), refused AS (
    SELECT batch_id, count(*) FILTER (WHERE disposition = 'quarantined') AS quarantined,
           count(*) FILTER (WHERE disposition = 'dead_lettered') AS dead_lettered
    FROM raw.quarantine WHERE dataset = $1 GROUP BY batch_id
), named AS (
    SELECT batch_id FROM landed UNION SELECT batch_id FROM kept UNION SELECT batch_id FROM refused
    UNION SELECT id FROM ops.batches WHERE dataset = $1
)
SELECT n.batch_id, b.id IS NULL AS unknown,
       coalesce(b.received, 0) AS received, coalesce(b.accepted, 0) AS accepted,
       coalesce(b.duplicate, 0) AS duplicate, coalesce(b.quarantined, 0) AS quarantined,
       coalesce(b.dead_lettered, 0) AS dead_lettered, coalesce(k.rows, 0) AS raw_rows,
       coalesce(l.accepted, 0)::bigint AS entries_accepted, coalesce(l.duplicate, 0)::bigint AS entries_duplicate,
       coalesce(r.quarantined, 0) AS kept_quarantined, coalesce(r.dead_lettered, 0) AS kept_dead_lettered
FROM named n
LEFT JOIN ops.batches b ON b.id = n.batch_id
LEFT JOIN landed l ON l.batch_id = n.batch_id
LEFT JOIN kept k ON k.batch_id = n.batch_id
LEFT JOIN refused r ON r.batch_id = n.batch_id
WHERE b.id IS NULL
   OR b.received <> b.accepted + b.duplicate + b.quarantined
   OR (b.accepted, b.accepted, b.duplicate)
      IS DISTINCT FROM (coalesce(k.rows, 0), coalesce(l.accepted, 0), coalesce(l.duplicate, 0))
   OR (b.quarantined, b.dead_lettered)
      IS DISTINCT FROM (coalesce(r.quarantined, 0), coalesce(r.dead_lettered, 0))
   OR (b.quarantined, b.dead_lettered)
      IS DISTINCT FROM (coalesce(l.quarantined, 0), coalesce(l.dead_lettered, 0))
"""


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset's ledger. All but batches are slots; unaccounted counts entries, of at least one slot each."""

    dataset: str
    published: int
    accepted: int
    duplicate: int
    quarantined: int
    conflicts: int
    dead_lettered: int
    in_flight: int
    unaccounted: int
    held: int
    batches: int
    problems: list[str]


async def verify_ledger(postgres: Postgres, bus: Bus, datasets: Mapping[str, Dataset]) -> list[LedgerReport]:
    """Count every dataset's events again; also while traffic runs."""
    return [await _verify(postgres, bus, dataset) for dataset in datasets.values()]


async def _verify(postgres: Postgres, bus: Bus, dataset: Dataset) -> LedgerReport:
    """The order makes it hold under traffic: Redis' count first, then what is unhandled, then what has landed.

    What leaves the stream between two looks has landed by the last one; what arrives after the first is left out.
    """
    (group,) = DATASET_GROUPS
    (stream,) = await bus.overview({dataset.stream: DATASET_GROUPS})
    last = _order(stream.last_id or "0-0")
    unhandled = [one async for one in bus.unhandled(dataset.stream, group) if _order(one.id) <= last]
    (totals,) = await postgres.fetch(_TOTALS, dataset.stream, *last, [one.id for one in unhandled])
    (batches,) = await postgres.fetch(_BATCHES, dataset.name)
    unbalanced = await postgres.fetch(
        _UNBALANCED.format(raw_table=dataset.raw_table), dataset.name, dataset.stream
    )
    landed = set(totals["landed_of_unhandled"])
    waiting = [one for one in unhandled if one.id not in landed]
    in_flight = sum(_slots(one) for one in waiting)
    unaccounted = stream.entries_added - totals["entries"] - len(waiting)
    return LedgerReport(
        dataset=dataset.name,
        published=totals["events"] + in_flight + max(0, unaccounted),
        accepted=totals["accepted"],
        duplicate=totals["duplicate"],
        quarantined=totals["quarantined"],
        conflicts=batches["conflicts"],
        dead_lettered=totals["dead_lettered"],
        in_flight=in_flight,
        unaccounted=max(0, unaccounted),
        held=batches["held"],
        batches=batches["batches"],
        problems=[*_stream_problems(stream, unaccounted), *_batch_problems(unbalanced)],
    )


def _stream_problems(stream: StreamOverview, unaccounted: int) -> list[str]:
    if unaccounted > 0:
        return [
            f"{unaccounted} of {stream.entries_added} entries of stream {stream.stream} neither landed nor wait in it:"
            " they were removed from it by hand, or its server lost them"
        ]
    if unaccounted < 0:
        return [
            f"stream {stream.stream} was made anew: it was given {stream.entries_added} entries since, and"
            f" {-unaccounted} more have landed; what it held when it was removed cannot be counted"
        ]
    return []


def _batch_problems(rows: Sequence[Row]) -> list[str]:
    told = [_batch_problem(row) for row in rows[:_PROBLEMS_TOLD]]
    return (
        told if len(rows) <= _PROBLEMS_TOLD else [*told, f"… and {len(rows) - _PROBLEMS_TOLD} more batches"]
    )


def _batch_problem(row: Row) -> str:
    if row["unknown"]:
        return f"rows stand under batch {row['batch_id']}, which the ledger does not know"
    return (
        f"batch {row['batch_id']} counts {row['received']} received, {row['accepted']} accepted,"
        f" {row['duplicate']} duplicate, {row['quarantined']} quarantined, {row['dead_lettered']} dead-lettered;"
        f" found are {row['raw_rows']} RAW rows, {row['entries_accepted']} accepted and"
        f" {row['entries_duplicate']} duplicate by entries, {row['kept_quarantined']} quarantined and"
        f" {row['kept_dead_lettered']} dead-lettered originals"
    )


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


def _slots(entry: Entry) -> int:
    """How many events the entry carries: of an array its length, of anything else one."""
    try:
        return max(1, len(msgspec.json.decode(entry.data, type=list[msgspec.Raw])))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 1
