"""What waits longer than it should: batches, the archive, entries in the streams. No event tells of these."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from libs.contracts.events import batch_subject, derived_id
from services.audit.domain.steps import Step

__all__ = [
    "ARCHIVE_FLOW",
    "DEADLINE",
    "FLOW",
    "OPEN_FLOW",
    "STREAM_FLOW",
    "Backlog",
    "Overdue",
    "Unarchived",
    "appended_at",
    "archive_run",
    "backlog_step",
    "deadline_step",
    "stream_run",
    "unarchived_step",
]

DEADLINE: Final = "deadline.missed"
"""An event type that no service announces: the audit itself finds it."""

FLOW: Final = "deadline"
OPEN_FLOW: Final = "deadline-open"
ARCHIVE_FLOW: Final = "deadline-archive"
STREAM_FLOW: Final = "deadline-stream"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT: Final = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A batch that readers don't see though its deadline has passed, as Postgres knows it.

    status is the word of ops.batch_status; since is when the batch closed, or was opened if it is open still;
    generation the newest that took the batch up, verdict its verdict, broken the rules that it broke.
    """

    batch_id: uuid.UUID
    dataset: str
    status: str
    accepted: int
    since: datetime
    seen_at: datetime
    generation: int | None
    verdict: str | None
    broken: tuple[str, ...]
    pinned: str | None
    traceparent: str | None
    opened_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unarchived:
    """Closed batches of a dataset that are past their deadline and not in the object store.

    since is when the oldest closed; batches are the oldest, at most 100 of count; rows are those accepted.
    """

    dataset: str
    count: int
    batches: tuple[uuid.UUID, ...]
    rows: int
    since: datetime
    seen_at: datetime
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Entries of a dataset's stream that a group has not handled.

    first is the oldest one's id; pending are given out, unread never were (None: Redis can't tell). seen_at is by
    the database's clock, once it was asked.
    """

    dataset: str
    stream: str
    group: str
    first: str
    pending: int
    unread: int | None
    seen_at: datetime | None = None


def deadline_step(late: Overdue, *, deadline: float, trace_id: str | None) -> Step:
    """The failed row of a batch that missed its deadline (seconds), under one event id.

    One that nobody closes and one that nobody publishes are two facts of a batch.
    """
    is_open = late.status == "open"
    subject = batch_subject(late.batch_id)
    why, fix = _explanation(late)
    waited = (late.seen_at - late.since).total_seconds()
    standing = "still open {} s after it was opened" if is_open else "not published {} s after it closed"
    return Step(
        event_id=derived_id(late.batch_id, DEADLINE, f"{subject}/open" if is_open else subject),
        flow=OPEN_FLOW if is_open else FLOW,
        run_id=str(late.batch_id),
        status="failed",
        started_at=late.since,
        ended_at=late.seen_at,
        records=late.accepted,
        event_type=DEADLINE,
        metadata={
            "dataset": late.dataset,
            "batches": [str(late.batch_id)],
            "generation": late.generation,
            "trace_id": trace_id,
            "event_type": DEADLINE,
            "state": late.status,
            "deadline_seconds": deadline,
            "broken_rules": list(late.broken),
            "fix": fix,
        },
        error=f"batch {late.batch_id} of {late.dataset} ({late.accepted:,} rows) is "
        f"{standing.format(f'{waited:.0f}')} (deadline {deadline:g} s): {why}. Try: {fix}",
    )


def unarchived_step(late: Unarchived, *, deadline: float, trace_id: str | None) -> Step:
    """The failed row of a dataset whose closed batches are not archived: one for all that wait together."""
    waited = (late.seen_at - late.since).total_seconds()
    fix = "drp status --health (is the archiver alive? does it reach the object store?)"
    return Step(
        event_id=derived_id(late.batches[0], DEADLINE, f"{batch_subject(late.batches[0])}/archive"),
        flow=ARCHIVE_FLOW,
        run_id=archive_run(late.dataset),
        status="failed",
        started_at=late.since,
        ended_at=late.seen_at,
        records=late.rows,
        event_type=DEADLINE,
        metadata={
            "dataset": late.dataset,
            "batches": [str(batch) for batch in late.batches],
            "count": late.count,
            "generation": None,
            "trace_id": trace_id,
            "event_type": DEADLINE,
            "deadline_seconds": deadline,
            "fix": fix,
        },
        error=f"{late.count:,} closed batches of {late.dataset} ({late.rows:,} rows) are not archived; the oldest, "
        f"{late.batches[0]}, closed {waited:.0f} s ago (deadline {deadline:g} s). Try: {fix}",
    )


def backlog_step(late: Backlog, *, deadline: float) -> Step:
    """The failed row of a stream whose oldest entries nobody handles: one for all that wait together."""
    since = appended_at(late.first)
    now = late.seen_at or since
    unread = "an unknown number" if late.unread is None else f"{late.unread:,}"
    fix = f"drp status --health (is the {late.group} alive? what does its log say?)"
    return Step(
        event_id=uuid.uuid5(
            uuid.NAMESPACE_URL, f"{DEADLINE}|{stream_run(late.stream, late.group)}|{late.first}"
        ),
        flow=STREAM_FLOW,
        run_id=stream_run(late.stream, late.group),
        status="failed",
        started_at=since,
        ended_at=now,
        records=0,
        event_type=DEADLINE,
        metadata={
            "dataset": late.dataset,
            "batches": [],
            "generation": None,
            "trace_id": None,
            "event_type": DEADLINE,
            "stream": late.stream,
            "group": late.group,
            "entry": late.first,
            "pending": late.pending,
            "unread": late.unread,
            "deadline_seconds": deadline,
            "fix": fix,
        },
        error=f"entry {late.first} of stream {late.stream} waits for the {late.group} since "
        f"{(now - since).total_seconds():.0f} s (deadline {deadline:g} s), with others: {late.pending:,} taken and not "
        f"finished, {unread} not taken. Try: {fix}",
    )


def archive_run(dataset: str) -> str:
    return f"archive/{dataset}"


def stream_run(stream: str, group: str) -> str:
    return f"{stream}/{group}"


def appended_at(entry_id: str) -> datetime:
    """When Redis appended the entry, UTC. A producer may have chosen an id that is no time: then the last there is."""
    milliseconds = min(int(entry_id.partition("-")[0]), _LAST_MOMENT)
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _explanation(late: Overdue) -> tuple[str, str]:
    """Why the batch is where it is, as far as it is known, and what to do."""
    health = "drp status --health"
    if late.status == "open":
        return (
            f"{late.opened_by or 'an ingestor'} opened it, and no ingestor closes it",
            f"{health} (is an ingestor alive?)",
        )
    if late.pinned is not None:
        return f"publishing is pinned ({late.pinned})", "drp warehouse resume"
    match late.status:
        case "blocked":
            rules = ", ".join(late.broken) or "an unknown rule"
            return (
                f"generation {late.generation} was blocked by the quality gate ({rules})",
                f"drp quality show {late.generation}; then drp batches hold {late.batch_id} --reason …, or "
                "publish corrections",
            )
        case "building":
            return (
                f"generation {late.generation} is still being built",
                f"{health} (is the transformer alive?)",
            )
        case "built":
            return (
                f"generation {late.generation} waits for its verdict",
                f"{health} (is the validator alive?)",
            )
        case "passed":
            return (
                f"generation {late.generation} passed the quality gate and waits to be published",
                f"{health} (is the transformer alive? if the archive is required, the archiver too)",
            )
        case _:
            return (
                "no generation has taken it up",
                f"{health} (is the transformer alive?), "
                "drp batches ls --status blocked (is another in its way?)",
            )
