"""Counting again: is every slot that was published where the ledger says?

    published = accepted + duplicate + quarantined + dead-lettered + in flight

Redis knows how many entries a stream ever had; Postgres knows which of them landed; what is in neither is
unaccounted. Traffic may go on meanwhile: everything is counted up to the last entry that was there at first,
and Redis is looked at before Postgres, so an entry that lands in between is in both and counted once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from libs.adapters.bus import Bus
from libs.adapters.postgres import Connection, Postgres, Row
from libs.contracts.streams import DATASET_GROUPS
from libs.datasets import Dataset
from libs.pipeline.decode import Decoder

__all__ = ["LedgerReport", "verify_ledger"]

_SHOWN: Final = 5
_SECOND_LOOK_AFTER: Final = 0.5

_TOTALS: Final = """
-- one row: all batches of the dataset
SELECT count(*) AS batches, coalesce(sum(accepted), 0)::bigint AS accepted,
       coalesce(sum(duplicate), 0)::bigint AS duplicate, coalesce(sum(quarantined), 0)::bigint AS quarantined,
       coalesce(sum(conflicts), 0)::bigint AS conflicts, coalesce(sum(dead_lettered), 0)::bigint AS dead_lettered,
       coalesce(sum(accepted) FILTER (WHERE held_at IS NOT NULL), 0)::bigint AS held
FROM ops.batches WHERE dataset = $1
"""

_LANDED: Final = """
-- one row: the entries of the stream that landed, all of them and those up to a given one
SELECT count(*) AS entries, coalesce(sum(events), 0)::bigint AS slots, count(*) FILTER (
    WHERE (split_part(entry_id, '-', 1)::numeric, split_part(entry_id, '-', 2)::numeric)
        <= ($2::numeric, $3::numeric)
) AS entries_then
FROM ops.entries WHERE stream = $1
"""

_LANDED_OF: Final = """
-- one row per entry that landed
SELECT entry_id FROM ops.entries WHERE stream = $1 AND entry_id = ANY($2::text[])
"""

_BATCHES: Final = """
-- one row per batch whose numbers do not agree: its own, its entries', its rows in RAW and in quarantine
SELECT * FROM (
    SELECT coalesce(b.id, e.batch_id, r.batch_id, q.batch_id) AS id, b.id IS NOT NULL AS known,
        b.received, b.accepted, b.duplicate, b.quarantined, b.dead_lettered,
        coalesce(e.accepted, 0) AS e_accepted, coalesce(e.duplicate, 0) AS e_duplicate,
        coalesce(e.quarantined, 0) AS e_quarantined, coalesce(e.dead_lettered, 0) AS e_dead_lettered,
        coalesce(r.rows, 0) AS raw_rows, coalesce(q.quarantined, 0) AS q_quarantined,
        coalesce(q.dead_lettered, 0) AS q_dead_lettered, coalesce(q.conflicts, 0) AS q_conflicts, b.conflicts
    FROM (SELECT * FROM ops.batches WHERE dataset = $1) b
    FULL JOIN (
        SELECT batch_id, sum(accepted) AS accepted, sum(duplicate) AS duplicate,
               sum(quarantined) AS quarantined, sum(dead_lettered) AS dead_lettered
        FROM ops.entries WHERE stream = $2 GROUP BY batch_id
    ) e ON e.batch_id = b.id
    FULL JOIN (SELECT batch_id, count(*) AS rows FROM {raw} GROUP BY batch_id) r
        ON r.batch_id = coalesce(b.id, e.batch_id)
    FULL JOIN (
        SELECT batch_id, count(*) FILTER (WHERE disposition = 'quarantined') AS quarantined,
               count(*) FILTER (WHERE disposition = 'dead_lettered') AS dead_lettered,
               count(*) FILTER (WHERE reason = 'conflict') AS conflicts
        FROM raw.quarantine WHERE dataset = $1 GROUP BY batch_id
    ) q ON q.batch_id = coalesce(b.id, e.batch_id, r.batch_id)
) AS batch
WHERE known IS NOT TRUE OR received <> accepted + duplicate + quarantined
   OR (accepted, duplicate, quarantined, dead_lettered)
      IS DISTINCT FROM (e_accepted, e_duplicate, e_quarantined, e_dead_lettered)
   OR (accepted, quarantined, dead_lettered, conflicts)
      IS DISTINCT FROM (raw_rows, q_quarantined, q_dead_lettered, q_conflicts)
ORDER BY id
"""

_GENERATION: Final = """
-- at most one row: what readers see, against the batches that it is made of, back to its last full build
WITH RECURSIVE line AS (
    SELECT g.number, g.parent, g.kind FROM ops.warehouse_pointer p
    JOIN ops.generations g ON g.number = p.generation WHERE p.dataset = $1
    UNION ALL
    SELECT g.number, g.parent, g.kind FROM line JOIN ops.generations g ON g.number = line.parent
    WHERE line.kind = 'incremental'
),
made_of AS (
    SELECT DISTINCT gb.batch_id FROM line JOIN ops.generation_batches gb ON gb.generation = line.number
)
SELECT p.generation, g.raw_rows, g.staged + g.rejected + g.superseded AS parts,
       (SELECT coalesce(sum(b.accepted), 0)::bigint FROM made_of m JOIN ops.batches b ON b.id = m.batch_id) AS made_of,
       (SELECT count(*) FROM ops.batches b WHERE b.dataset = $1 AND b.generation IS NOT NULL
            AND NOT EXISTS (SELECT FROM made_of m WHERE m.batch_id = b.id)) AS claimed,
       (SELECT count(*) FROM made_of m JOIN ops.batches b ON b.id = m.batch_id
            WHERE b.generation IS NULL AND b.held_at IS NULL) AS disclaimed
FROM ops.warehouse_pointer p JOIN ops.generations g ON g.number = p.generation
WHERE p.dataset = $1
"""


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset's ledger, counted again.

    published = accepted + duplicate + quarantined + dead_lettered + in_flight, in slots (events). unaccounted
    is in entries of the stream: those that were added, and neither landed nor wait; negative if more landed
    than the stream ever had. conflicts are among the quarantined, held among the accepted. problems is empty
    if all agrees.
    """

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
    entries_added: int
    entries_landed: int
    entries_in_flight: int
    problems: list[str]

    @property
    def balanced(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Stream:
    """What Redis said. last_id is None if there is no stream; waiting is, by entry id, the slots it holds."""

    added: int
    last_id: str | None
    waiting: Mapping[str, int]


async def verify_ledger(postgres: Postgres, bus: Bus, datasets: Mapping[str, Dataset]) -> list[LedgerReport]:
    """Count every dataset's ledger again. What doesn't agree is looked at twice before it is called a problem.

    Raises:
        Transient, Permanent: Redis or Postgres could not be asked.
    """
    reports = []
    for dataset in datasets.values():
        report = await _look(postgres, bus, dataset)
        if report.problems:
            await asyncio.sleep(_SECOND_LOOK_AFTER)
            report = await _look(postgres, bus, dataset)
        reports.append(report)
    return reports


async def _look(postgres: Postgres, bus: Bus, dataset: Dataset) -> LedgerReport:
    stream = await _stream(bus, dataset)
    async with postgres.transaction() as connection:
        # All of Postgres as of one moment, which is after Redis was looked at.
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        totals = await connection.fetchrow(_TOTALS, dataset.name)
        assert totals is not None  # noqa: S101 an aggregate always gives a row
        then = (stream.last_id or "0-0").split("-")
        landed = await connection.fetchrow(_LANDED, dataset.stream, int(then[0]), int(then[1]))
        assert landed is not None  # noqa: S101 the same
        arrived = await _arrived_meanwhile(connection, dataset, list(stream.waiting))
        problems = await _batch_problems(connection, dataset)
        problems += await _generation_problems(connection, dataset)
    waiting = {entry: slots for entry, slots in stream.waiting.items() if entry not in arrived}
    unaccounted = stream.added - landed["entries_then"] - len(waiting)
    problems = [*_stream_problems(dataset, stream, landed, len(waiting), unaccounted), *problems]
    settled = sum(totals[name] for name in ("accepted", "duplicate", "quarantined", "dead_lettered"))
    if settled != landed["slots"]:
        problems.append(f"{landed['slots']} slots landed, the batches count {settled}")
    in_flight = sum(waiting.values())
    return LedgerReport(
        dataset=dataset.name,
        published=settled + in_flight,
        in_flight=in_flight,
        unaccounted=unaccounted,
        entries_added=stream.added,
        entries_landed=landed["entries"],
        entries_in_flight=len(waiting),
        problems=problems,
        **dict(totals),
    )


async def _stream(bus: Bus, dataset: Dataset) -> _Stream:
    """How many entries there ever were, then which of those nobody has acknowledged."""
    (seen,) = await bus.overview({dataset.stream: DATASET_GROUPS})
    last_id = seen.last_generated_id
    if last_id is None:
        return _Stream(0, None, {})
    decoder = Decoder(dataset)
    waiting: dict[str, int] = {}
    for group in DATASET_GROUPS:
        async for entry in bus.unhandled(dataset.stream, group):
            if _at(entry.id) > _at(last_id):
                break
            waiting[entry.id] = decoder.decode(entry.data, entry_id=entry.id).count
    return _Stream(seen.entries_added, last_id, waiting)


async def _arrived_meanwhile(connection: Connection, dataset: Dataset, entries: Sequence[str]) -> set[str]:
    """Those that landed since, or before: a consumer that died after its commit has not acknowledged."""
    rows = await connection.fetch(_LANDED_OF, dataset.stream, list(entries))
    return {row["entry_id"] for row in rows}


def _stream_problems(
    dataset: Dataset, stream: _Stream, landed: Row, waiting: int, unaccounted: int
) -> list[str]:
    if unaccounted > 0:
        return [
            f"{unaccounted} of {stream.added} entries of stream {dataset.stream} are unaccounted: they neither "
            "landed nor wait; somebody trimmed or deleted them before they were read"
        ]
    if unaccounted < 0 or (stream.last_id is None and landed["entries"]):
        return [
            f"stream {dataset.stream} was recreated, or Redis lost data: it counts {stream.added} entries in all, "
            f"and {landed['entries'] + waiting} have landed or wait; what was published before it can no longer "
            "be counted"
        ]
    return []


async def _batch_problems(connection: Connection, dataset: Dataset) -> list[str]:
    rows = await connection.fetch(_BATCHES.format(raw=dataset.raw_table), dataset.name, dataset.stream)
    problems = [_batch_problem(row) for row in rows[:_SHOWN]]
    return [*problems, f"and {len(rows) - _SHOWN} more batches"] if len(rows) > _SHOWN else problems


def _batch_problem(row: Row) -> str:
    if not row["known"]:
        return f"batch {row['id']} has rows or entries, and is not in the ledger"
    compared: list[tuple[str, Any, Any]] = [
        ("accepted, and rows in RAW", row["accepted"], row["raw_rows"]),
        ("quarantined, and rows in quarantine", row["quarantined"], row["q_quarantined"]),
        ("dead-lettered, and rows in quarantine", row["dead_lettered"], row["q_dead_lettered"]),
        ("conflicts, and rows in quarantine", row["conflicts"], row["q_conflicts"]),
        (
            "received, and their dispositions",
            row["received"],
            row["accepted"] + row["duplicate"] + row["quarantined"],
        ),
        *(
            (f"{name.replace('_', '-')}, and by its entries", row[name], row[f"e_{name}"])
            for name in ("accepted", "duplicate", "quarantined", "dead_lettered")
        ),
    ]
    differing = [f"{what}: {said} and {found}" for what, said, found in compared if said != found]
    return f"batch {row['id']}: {'; '.join(differing)}"


async def _generation_problems(connection: Connection, dataset: Dataset) -> list[str]:
    """That what readers see is made of the batches that say so, and of all their rows."""
    row = await connection.fetchrow(_GENERATION, dataset.name)
    if row is None:
        return []
    number, problems = row["generation"], []
    if row["raw_rows"] != row["made_of"]:
        problems.append(
            f"generation {number} was built from {row['raw_rows']} rows, its batches have {row['made_of']}"
        )
    if row["raw_rows"] != row["parts"]:
        problems.append(
            f"generation {number}: {row['raw_rows']} rows became {row['parts']} staged, rejected and superseded ones"
        )
    if row["claimed"]:
        problems.append(
            f"{row['claimed']} batches are called published, and generation {number} is without them"
        )
    if row["disclaimed"]:
        problems.append(f"generation {number} has {row['disclaimed']} batches that are not called published")
    return problems


def _at(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)
