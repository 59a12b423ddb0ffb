"""What an operator does with a quarantined event: correct it, put it away, take it up again. See redriving, too.

The original is never touched: a fix stands beside it. Each function works in the caller's transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from libs.adapters.postgres import Connection, Postgres, Row
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.operations.actions import record_action, record_actions
from libs.operations.corrections import (
    Correction,
    Difference,
    Slot,
    base_of,
    corrected,
    differences,
)
from libs.operations.prospects import FieldReport, Landed, Problem, Prospector, field_reports
from libs.pipeline.refusals import MAX_ENTRY_BYTES

__all__ = [
    "SELECTED",
    "Fix",
    "Selection",
    "Slots",
    "count_slots",
    "discard",
    "fix",
    "pages",
    "quarantine_subject",
    "reopen",
    "slot_of",
]

AT_ONCE: Final = 1_000

SELECTED: Final = """
    ($1::text IS NULL OR dataset = $1) AND ($2::text IS NULL OR reason = $2) AND ($3::uuid IS NULL OR batch_id = $3)
    AND CASE WHEN $4::bigint[] IS NULL THEN state = 'open' ELSE id = ANY($4) END
"""
"""Whether a slot is selected; its arguments are the selection's."""

_COUNTED: Final = f"""
-- one row: how many slots are selected, the greatest of their numbers, and the least that is named and not there
SELECT count(*) AS count, coalesce(max(id), 0) AS last,
       (SELECT min(n) FROM unnest($4::bigint[]) AS n
        WHERE NOT EXISTS (SELECT FROM raw.quarantine q WHERE q.id = n)) AS missing
FROM raw.quarantine WHERE {SELECTED}
"""

_PAGE: Final = f"""
-- one row per selected slot of a range, in the order they came
SELECT id, dataset, octet_length(coalesce(fixed, original)) AS bytes FROM raw.quarantine
WHERE id > $5 AND id <= $6 AND {SELECTED} ORDER BY id LIMIT $7
"""

_ONE: Final = """
-- one row: the slot, kept from changing until the transaction ends
SELECT id, dataset, stream, stream_entry_id, stream_position, reason, source_system, event_id, state, original,
       fixed, clock_timestamp() AS now
FROM raw.quarantine WHERE id = $1 FOR UPDATE
"""

_FIX: Final = "UPDATE raw.quarantine SET fixed = $2, fixed_at = $3, fixed_by = $4 WHERE id = $1"

_DISCARD: Final = """
-- one row per slot that was open
UPDATE raw.quarantine SET state = 'discarded', settled_at = clock_timestamp()
WHERE id = ANY($1::bigint[]) AND state = 'open' RETURNING id
"""

_REOPEN: Final = """
-- one row per slot that was settled
UPDATE raw.quarantine SET state = 'open', settled_at = NULL
WHERE id = ANY($1::bigint[]) AND state <> 'open' RETURNING id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which slots: those named by id, else every open one of this reason code, batch and dataset."""

    ids: Sequence[int] | None = None
    reason: str | None = None
    batch_id: uuid.UUID | None = None
    dataset: str | None = None

    @property
    def arguments(self) -> tuple[object, ...]:
        """Of a statement with SELECTED."""
        ids = None if self.ids is None else list(self.ids)
        return self.dataset, self.reason, self.batch_id, ids


@dataclass(frozen=True, slots=True)
class Slots:
    """How many slots are selected, and the greatest of their numbers: what comes later is not meant."""

    count: int
    last: int


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """A corrected event, checked. outcome is what would become of it now; differences are from the original."""

    id: int
    dataset: str
    document: str
    outcome: str
    detail: str | None
    differences: list[Difference]
    problems: list[Problem]
    fields: list[FieldReport]
    landed: list[Landed]


def quarantine_subject(number: int) -> str:
    return f"quarantine:{number}"


def slot_of(row: Mapping[str, object] | Row) -> Slot:
    return Slot(*(row[name] for name in _SLOT))  # type: ignore[arg-type]  # a row's values are objects


_SLOT: Final = ("stream", "stream_entry_id", "stream_position", "source_system", "event_id")


async def fix(
    connection: Connection,
    datasets: Mapping[str, Dataset],
    number: int,
    change: Correction,
    *,
    afresh: bool = False,
    because: str = "corrected",
    actor: str,
) -> Fix:
    """Keep a corrected document beside the original, and say what would become of it. Publishes nothing.

    Args:
        afresh: start from the original again, not from the fix so far.

    Raises:
        Permanent: there is no such slot, it isn't open, or it can't be changed like this.
    """
    row = await connection.fetchrow(_ONE, number)
    if row is None:
        raise Permanent(f"nothing is quarantined under number {number}", fix="drp quarantine ls")
    if row["state"] != "open":
        raise Permanent(f"event {number} is {row['state']}", fix=f"drp quarantine reopen {number}")
    dataset = datasets.get(row["dataset"])
    if dataset is None:
        raise Permanent(f"there is no dataset {row['dataset']} any more", fix="DRP_DATASETS_DIR")
    base = (
        row["fixed"] if row["fixed"] is not None and not afresh else base_of(row["original"], row["reason"])
    )
    document = corrected(base, change, dataset, slot_of(row), now=row["now"])
    if len(document) > MAX_ENTRY_BYTES:
        raise Permanent(f"the correction has {len(document)} bytes", why=f"{MAX_ENTRY_BYTES} are allowed")
    (prospect,) = await Prospector(dataset).ask(connection, [(row["stream_entry_id"], document)])
    await connection.execute(_FIX, number, document, row["now"], actor)
    changed = differences(row["original"], document)
    await record_action(
        connection,
        actor=actor,
        action="quarantine.fix",
        subject=quarantine_subject(number),
        reason=because,
        detail={"fields": [each.field for each in changed], "outcome": prospect.outcome},
    )
    return Fix(
        id=number,
        dataset=dataset.name,
        document=document.decode("utf-8", "backslashreplace"),
        outcome=prospect.outcome,
        detail=prospect.detail,
        differences=changed,
        problems=prospect.problems,
        fields=field_reports(document, dataset),
        landed=prospect.landed,
    )


async def discard(connection: Connection, selection: Selection, *, because: str, actor: str) -> list[int]:
    """Put the selected open slots away; their numbers. The originals stay, and `reopen` takes them up again.

    Raises:
        Permanent: a slot that was named is not there, or one is selected and no reason was given.
    """
    return await _settle(connection, _DISCARD, selection, "quarantine.discard", because=because, actor=actor)


async def reopen(connection: Connection, ids: Sequence[int], *, because: str, actor: str) -> list[int]:
    """Take discarded or redriven slots up again; the numbers of those that weren't open.

    What was redriven stays published: the same event again will be a duplicate.

    Raises:
        Permanent: one is not there, or no reason was given.
    """
    selection = Selection(ids=ids)
    return await _settle(connection, _REOPEN, selection, "quarantine.reopen", because=because, actor=actor)


async def _settle(
    connection: Connection, statement: str, selection: Selection, action: str, *, because: str, actor: str
) -> list[int]:
    settled: list[int] = []
    slots = await count_slots(connection, selection)
    async for page in pages(connection, selection, until=slots.last):
        rows = await connection.fetch(statement, [row["id"] for row in page])
        changed = sorted(row["id"] for row in rows)
        await record_actions(
            connection,
            actor=actor,
            action=action,
            subjects={quarantine_subject(number): {} for number in changed},
            reason=because,
        )
        settled += changed
    return settled


async def count_slots(postgres: Postgres | Connection, selection: Selection) -> Slots:
    """
    Raises:
        Permanent: a slot that was named is not there.
    """
    row = await postgres.fetchrow(_COUNTED, *selection.arguments)
    if row is None:
        return Slots(0, 0)
    if row["missing"] is not None:
        raise Permanent(f"nothing is quarantined under number {row['missing']}", fix="drp quarantine ls")
    return Slots(row["count"], row["last"])


async def pages(
    postgres: Postgres | Connection, selection: Selection, *, until: int, at_once: int = AT_ONCE
) -> AsyncIterator[list[Row]]:
    """id, dataset and bytes (of what would be published) of the selected slots, however many there are.

    Each page is looked for when it is asked for: what was settled meanwhile is not in it.

    Args:
        until: the last that is meant.
    """
    after = 0
    while page := await postgres.fetch(_PAGE, *selection.arguments, after, until, at_once):
        yield page
        after = page[-1]["id"]
