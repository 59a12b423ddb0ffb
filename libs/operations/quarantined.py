"""What is in quarantine: in groups that have the same cause, and one by one. Read only."""

from __future__ import annotations

import uuid
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from libs.errors import Permanent

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres, Row

__all__ = [
    "BUCKETS",
    "SORTS",
    "STAGES",
    "STATES",
    "Group",
    "Grouped",
    "QuarantinedSlot",
    "Sort",
    "Which",
    "grouped",
    "quarantined_slots",
]

Sort = Literal["count", "last", "first"]

SORTS: Final[dict[Sort, str]] = {"count": "count", "last": "last_at", "first": "first_at"}
"""What groups can be sorted by, and the column of each."""
STATES: Final = ("open", "redriven", "discarded")
STAGES: Final = MappingProxyType(
    {
        "unreadable": "file",
        "undecodable": "decoding",
        "bad_utf8": "decoding",
        "too_large": "decoding",
        "too_deep": "decoding",
        "not_an_event": "envelope",
        "unknown_version": "envelope",
        "field_missing": "contract",
        "wrong_type": "contract",
        "not_exact": "contract",
        "nul_byte": "contract",
        "conflict": "RAW",
        "unstorable": "RAW",
        "undeliverable": "ingestor",
    }
)
"""Where each reason is found: what looked at the event then."""
BUCKETS: Final = 48
"""Parts of equal length into which the time of the chosen slots is cut."""


_GROUPED: Final = """
-- one row per group in which a slot is in the state, with the counts of all that is chosen; a row with no group if
-- there is none. Grouped by what the planner knows the number of: by the parts of time, too, it would sort all slots
WITH span AS (
    SELECT created_at AS begins_at, date_part('epoch', created_at) AS begins,
           greatest(date_part('epoch', now()), date_part('epoch', created_at) + 1) AS ends
    FROM raw.quarantine WHERE {chosen} AND {state} ORDER BY id LIMIT 1
), counted AS MATERIALIZED (
    SELECT dataset, reason, disposition, field, dataschema, state, {state} AS shown, count(*) AS n,
           min(created_at) AS first_at, max(created_at) AS last_at,
           array_agg(width_bucket(date_part('epoch', created_at), begins, ends, $1::int)) FILTER (WHERE {state})
               AS buckets
    FROM raw.quarantine LEFT JOIN span ON true WHERE {chosen} GROUP BY 1, 2, 3, 4, 5, 6
), kinds AS (
    SELECT dataset, reason, disposition, field, dataschema,
           coalesce(sum(n) FILTER (WHERE state = 'open'), 0)::bigint AS open,
           coalesce(sum(n) FILTER (WHERE state = 'redriven'), 0)::bigint AS redriven,
           coalesce(sum(n) FILTER (WHERE state = 'discarded'), 0)::bigint AS discarded,
           sum(n) FILTER (WHERE shown)::bigint AS count,
           min(first_at) FILTER (WHERE shown) AS first_at, max(last_at) FILTER (WHERE shown) AS last_at,
           max(buckets) FILTER (WHERE state = 'open') || max(buckets) FILTER (WHERE state = 'redriven')
               || max(buckets) FILTER (WHERE state = 'discarded') AS buckets -- a kind has one row a state
    FROM counted GROUP BY 1, 2, 3, 4, 5
), total AS (
    SELECT coalesce(sum(n) FILTER (WHERE state = 'open'), 0)::bigint AS all_open,
           coalesce(sum(n) FILTER (WHERE state = 'redriven'), 0)::bigint AS all_redriven,
           coalesce(sum(n) FILTER (WHERE state = 'discarded'), 0)::bigint AS all_discarded,
           min(first_at) FILTER (WHERE state = 'open') AS all_open_since,
           (SELECT count(*) FROM kinds WHERE count > 0) AS kinds
    FROM counted
)
SELECT kind.dataset, kind.reason, kind.disposition, kind.field, kind.dataschema, kind.open, kind.redriven,
       kind.discarded, kind.first_at, kind.last_at, over.buckets, over.counts, total.all_open, total.all_redriven,
       total.all_discarded, total.all_open_since, total.kinds, span.begins_at, now() AS ends_at
FROM total LEFT JOIN span ON true LEFT JOIN LATERAL (
    SELECT * FROM kinds WHERE count > 0 ORDER BY {order}, count DESC, last_at DESC, reason, field, dataschema LIMIT $2
) AS kind ON true LEFT JOIN LATERAL (
    SELECT array_agg(bucket) AS buckets, array_agg(n) AS counts
    FROM (SELECT bucket, count(*) AS n FROM unnest(kind.buckets) AS bucket GROUP BY bucket) AS parts
) AS over ON true
ORDER BY {order}, count DESC, last_at DESC, reason, field, dataschema
"""

_SLOTS: Final = """
-- one row per chosen slot, newest first, without its bytes
SELECT id, dataset, reason, disposition, detail, field, dataschema, source_system AS source, event_id, batch_id, state,
       created_at, fixed IS NOT NULL AS fixed
FROM raw.quarantine WHERE {chosen} AND {state} AND ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2
"""


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Which slots; None: any. field and dataschema: an empty one means those that have none."""

    dataset: str | None = None
    reason: str | None = None
    field: str | None = None
    dataschema: str | None = None
    batch_id: uuid.UUID | None = None
    state: str | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Slots that were refused for the same cause: how many are in each state. stage: where, as STAGES says.

    first_at, last_at and over tell of those in the chosen state alone. over: how many came in each of BUCKETS equal
    parts of the time of all that is chosen.
    """

    dataset: str
    reason: str
    stage: str
    disposition: str
    field: str | None
    dataschema: str | None
    open: int
    redriven: int
    discarded: int
    first_at: datetime
    last_at: datetime
    over: list[int]

    @property
    def settled(self) -> int:
        return self.redriven + self.discarded


class Grouped(msgspec.Struct, frozen=True, kw_only=True):
    """The groups in which a slot is in the chosen state, and the counts of all chosen slots, whatever their state.

    open_since: when the oldest open one came. more: groups that are not among them. begins_at, ends_at: the time that
    each group's `over` tells of; begins_at is None if nothing is chosen.
    """

    open: int
    redriven: int
    discarded: int
    open_since: datetime | None
    groups: list[Group]
    more: int
    begins_at: datetime | None
    ends_at: datetime


class QuarantinedSlot(msgspec.Struct, frozen=True, kw_only=True):
    """One slot, without its bytes. fixed: a correction stands beside it."""

    id: int
    dataset: str
    reason: str
    disposition: str
    detail: str
    field: str | None
    dataschema: str | None
    source: str | None
    event_id: str | None
    batch_id: uuid.UUID
    state: str
    created_at: datetime
    fixed: bool


async def grouped(
    postgres: Postgres, which: Which, *, sort: Sort = "count", descending: bool = True, limit: int = 200
) -> Grouped:
    """The chosen slots by dataset, reason, disposition, field and version: by default the largest group first."""
    order = f"{SORTS[sort]} {'DESC' if descending else 'ASC'}"
    chosen, state, arguments = _conditions(which)
    sql = _GROUPED.format(chosen=chosen, state=state, order=order)
    rows = await postgres.fetch(sql, BUCKETS, limit, *arguments)
    first, groups = rows[0], [_group(row) for row in rows if row["dataset"] is not None]
    return Grouped(
        open=first["all_open"],
        redriven=first["all_redriven"],
        discarded=first["all_discarded"],
        open_since=first["all_open_since"],
        groups=groups,
        more=first["kinds"] - len(groups),
        begins_at=first["begins_at"],
        ends_at=first["ends_at"],
    )


async def quarantined_slots(
    postgres: Postgres, which: Which, *, before: int | None = None, limit: int = 50
) -> list[QuarantinedSlot]:
    """The newest first. before: only those with a lesser number."""
    chosen, state, arguments = _conditions(which)
    rows = await postgres.fetch(_SLOTS.format(chosen=chosen, state=state), before, limit, *arguments)
    return [QuarantinedSlot(**dict(row)) for row in rows]


def _group(row: Row) -> Group:
    over = [0] * BUCKETS
    for bucket, count in zip(row["buckets"], row["counts"], strict=True):
        over[min(max(bucket, 1), BUCKETS) - 1] += count
    told = {name: row[name] for name in Group.__struct_fields__ if name not in ("over", "stage")}
    return Group(**told, stage=STAGES.get(row["reason"], "unknown"), over=over)


def _conditions(which: Which) -> tuple[str, str, list[object]]:
    """The condition without the state, the state's, and the arguments from $3 on.

    Only what is chosen is named, and the state as it is: a plan for any choice whatever would suit none.

    Raises:
        Permanent: there is no such state.
    """
    if which.state is not None and which.state not in STATES:
        raise Permanent(f"there is no state {which.state!r}", why=f"known are {', '.join(STATES)}")
    given = {
        "dataset": which.dataset,
        "reason": which.reason,
        "coalesce(field, '')": which.field,
        "coalesce(dataschema, '')": which.dataschema,
        "batch_id": which.batch_id,
    }
    chosen = {column: value for column, value in given.items() if value is not None}
    conditions = [f"{column} = ${place}" for place, column in enumerate(chosen, 3)]
    state = "true" if which.state is None else f"state = '{which.state}'"
    return " AND ".join(conditions) or "true", state, list(chosen.values())
