"""The transformer's SQL: what there is to build, the candidate's life, and the pointer."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from libs.adapters.postgres import Connection, Postgres, Row
from libs.adapters.warehouse import Warehouse
from libs.contracts.events import (
    StepFailed,
    WarehouseBuilt,
    WarehousePublished,
    batch_subject,
    generation_subject,
)
from libs.errors import Transient
from libs.pipeline.build import Built
from libs.pipeline.outbox import announce, remember
from libs.pipeline.plan import Batch, Kind, Plan, Request, Tried
from services.transformer import statements as sql
from services.transformer.domain import Candidate, Pointer, View

__all__ = ["CONSUMER", "Begun", "TransformerStore", "remember_events"]

CONSUMER: Final = "transformer"


@dataclass(frozen=True, slots=True)
class Begun:
    """A candidate that this process may build, while it keeps its lease."""

    number: int
    file: str
    started_at: datetime


class _ChangedSince(Exception):
    """What was read before is no longer so."""


class TransformerStore:
    """What the transformer reads and writes of one dataset."""

    def __init__(self, postgres: Postgres, dataset: str, *, holder: str, lease: float) -> None:
        self._postgres = postgres
        self._dataset = dataset
        self._holder = holder
        self._lease = lease

    async def view(self) -> View:
        async with self._postgres.transaction() as connection:
            await connection.execute(sql.ENSURE_POINTER, self._dataset)
            pointer = await connection.fetchrow(sql.POINTER, self._dataset)
            candidate = await connection.fetchrow(sql.CANDIDATE, self._dataset)
            batches = await connection.fetch(sql.PROMPTS, self._dataset)
            requests = await connection.fetch(sql.REQUESTS, self._dataset)
        if pointer is None:
            raise Transient(f"the pointer of {self._dataset} is gone")
        return View(
            pointer=_pointer(pointer),
            candidate=None if candidate is None else Candidate(**dict(candidate)),
            batches=[_batch(row) for row in batches],
            requests=[Request(row["id"], Kind(row["kind"]), row["requested_at"]) for row in requests],
            now=pointer["now"],
        )

    @asynccontextmanager
    async def pointer_held(self) -> AsyncIterator[Pointer]:
        """The pointer, which stays where it is until the block ends; of one that is paused, for ten seconds."""
        async with self._postgres.transaction() as connection:
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10s'")
            held = await connection.fetchrow(sql.POINTER_HELD, self._dataset)
            if held is None:
                raise Transient(f"the pointer of {self._dataset} is gone")
            yield _pointer(held)

    async def every_batch(self) -> list[Batch]:
        """All closed batches with rows: what a full plan chooses from."""
        return [_batch(row) for row in await self._postgres.fetch(sql.EVERY_BATCH, self._dataset)]

    async def tried(self, plan: Plan) -> list[Tried]:
        rows = await self._postgres.fetch(sql.TRIED, self._dataset, plan.plan_hash)
        return [Tried(row["attempt"], row["verdict"], row["failed"], row["ended_at"]) for row in rows]

    async def begin(self, plan: Plan, *, attempt: int) -> Begun | None:
        """Take the place of the one candidate; None if it is taken, or the plan no longer holds."""
        try:
            async with self._postgres.transaction() as connection:
                return await self._begin(connection, plan, attempt)
        except _ChangedSince:
            return None

    async def _begin(self, connection: Connection, plan: Plan, attempt: int) -> Begun:
        if await connection.fetchval(sql.STILL_CURRENT, self._dataset, plan.parent) is None:
            raise _ChangedSince
        number: int = await connection.fetchval("SELECT nextval('ops.generation_numbers')")
        file = Warehouse.file_name(number, attempt)
        started_at = await connection.fetchval(
            sql.BEGIN,
            number,
            self._dataset,
            plan.kind.value,
            plan.parent,
            plan.plan_hash,
            attempt,
            self._holder,
            self._lease,
            file,
            plan.cause,
        )
        if started_at is None:
            raise _ChangedSince
        chosen = [batch.id for batch in plan.batches]
        taken = await connection.fetch(sql.TAKE_BATCHES, number, chosen)
        if len(taken) != len(chosen):
            raise _ChangedSince
        await connection.execute(sql.ANSWER_REQUESTS, number, list(plan.requests))
        return Begun(number, file, started_at)

    async def keep_lease(self, number: int) -> bool:
        """Whether the candidate is still ours to build; if so, for another lease."""
        kept = await self._postgres.fetchval(sql.KEEP_LEASE, number, self._holder, self._lease)
        return kept is not None

    async def finish(self, begun: Begun, plan: Plan, built: Built, *, traceparent: str) -> bool:
        """Record what was built and announce it; False if the lease was lost and it counts for nothing."""
        async with self._postgres.transaction() as connection:
            built_at = await connection.fetchval(
                sql.FINISH,
                begun.number,
                self._holder,
                built.sha256,
                built.bytes,
                built.staged,
                built.rejected,
                built.superseded,
                built.raw_rows,
                built.staging_hash,
                built.analytics_hash,
                built.watermark,
                traceparent,
            )
            if built_at is None:
                return False
            event = WarehouseBuilt(
                dataset=self._dataset,
                started_at=begun.started_at,
                ended_at=built_at,
                records=built.added_rows,
                generation=begun.number,
                parent=plan.parent,
                kind=plan.kind.value,
                batches=[batch.id for batch in plan.batches],
                sha256=built.sha256,
                staged=built.staged,
                rejected=built.rejected,
                superseded=built.superseded,
            )
            await announce(
                connection,
                event,
                cause=plan.cause,
                subject=generation_subject(begun.number),
                traceparent=traceparent,
            )
        return True

    async def give_up(
        self,
        begun: Begun,
        plan: Plan,
        *,
        error: str | None,
        ask_again: bool,
        failed: StepFailed | None,
        traceparent: str,
    ) -> None:
        """Abandon our own build, and announce that it failed; nothing of both if the lease was lost.

        Args:
            error: None if it was only stopped.
            ask_again: the requests that it was to answer wait again.
        """
        async with self._postgres.transaction() as connection:
            gone = await connection.fetchval(sql.GIVE_UP, begun.number, self._holder, error, traceparent)
            if gone is None:
                return
            if ask_again:
                await connection.execute(sql.ASK_AGAIN, [begun.number])
            if failed is not None:
                # One id for all attempts of a plan: told once, however often it fails.
                told = batch_subject(plan.prompts[0].id) if plan.prompts else generation_subject(begun.number)
                await announce(
                    connection,
                    failed,
                    cause=uuid.uuid5(plan.cause, plan.plan_hash),
                    subject=told,
                    traceparent=traceparent,
                )

    async def abandon(self, candidate: Candidate, why: str) -> bool:
        """Give up a finished candidate that can't be published; False if somebody did something with it."""
        async with self._postgres.transaction() as connection:
            gone = await connection.fetchval(sql.ABANDON, candidate.number, candidate.state, why)
            if gone is not None:
                await connection.execute(sql.ASK_AGAIN, [gone])
        return gone is not None

    async def abandon_orphans(self, *, consumer: str) -> list[int]:
        """Give up candidates whose builder lost its lease, or was an earlier life of this consumer."""
        async with self._postgres.transaction() as connection:
            rows = await connection.fetch(sql.ABANDON_ORPHANS, self._dataset, consumer, self._holder)
            gone = [row["number"] for row in rows]
            if gone:
                await connection.execute(sql.ASK_AGAIN, gone)
        return gone

    async def publish(
        self, candidate: Candidate, pointer: Pointer, *, began: datetime, traceparent: str
    ) -> WarehousePublished | None:
        """Move the pointer to the candidate if all is still as it was seen; None if it isn't.

        One statement decides: the version is the one that was read, nothing pins it, it points to the
        candidate's parent, and this very file passed or was accepted.
        """
        try:
            async with self._postgres.transaction() as connection:
                return await self._publish(connection, candidate, pointer, began, traceparent)
        except _ChangedSince:
            return None

    async def _publish(
        self,
        connection: Connection,
        candidate: Candidate,
        pointer: Pointer,
        began: datetime,
        traceparent: str,
    ) -> WarehousePublished:
        moved = await connection.fetchrow(
            sql.MOVE_POINTER, self._dataset, pointer.version, candidate.number, candidate.sha256
        )
        if moved is None:
            raise _ChangedSince
        carried = await connection.fetch(sql.CARRY, candidate.number)
        if len(carried) != moved["batches"]:
            raise _ChangedSince
        if candidate.kind == Kind.FULL:
            await connection.execute(sql.DROP_UNCARRIED, self._dataset, candidate.number)
        if candidate.parent is not None:
            await connection.execute(sql.RETIRE, candidate.parent)
        await connection.execute(sql.MARK_PUBLISHED, candidate.number, moved["moved_at"])
        event = WarehousePublished(
            dataset=self._dataset,
            started_at=began,
            ended_at=max(began, moved["moved_at"]),
            records=moved["staged"],
            generation=candidate.number,
            version=moved["version"],
            batches=[row["id"] for row in carried],
            sha256=moved["sha256"],
            reason="accepted" if moved["accepted"] else "passed",
        )
        await announce(
            connection,
            event,
            cause=moved["cause"],
            subject=generation_subject(candidate.number),
            traceparent=traceparent,
        )
        return event

    async def prune(self, *, keep: int, spare_unarchived: bool) -> set[str]:
        """Mark as pruned what is beyond the count; the names of the files that must stay."""
        await self._postgres.execute(sql.PRUNE, self._dataset, keep, spare_unarchived)
        return {row["file"] for row in await self._postgres.fetch(sql.LIVING_FILES, self._dataset)}

    async def watermark(self, number: int) -> datetime | None:
        found: datetime | None = await self._postgres.fetchval(
            "SELECT watermark FROM ops.generations WHERE number = $1", number
        )
        return found


async def remember_events(postgres: Postgres, heard: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Note events as handled; those that are new."""
    async with postgres.transaction() as connection:
        return await remember(connection, CONSUMER, heard)


def _pointer(row: Row) -> Pointer:
    return Pointer(
        generation=row["generation"], version=row["version"], pinned=row["pinned"], file=row["file"]
    )


def _batch(row: Row) -> Batch:
    return Batch(
        id=row["id"],
        closed_at=row["closed_at"],
        held=row["held"],
        published=row["published"],
        accepted=row["accepted"],
        traceparent=row["traceparent"],
    )
