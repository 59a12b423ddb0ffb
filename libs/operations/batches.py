"""What an operator does with a batch: have it closed, leave it out of the warehouse, and put it back.

Each function works in the caller's transaction: the change, the operator's action and the event that tells
of it commit together.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from libs.contracts.events import BatchHeld, BatchReleased, batch_subject
from libs.errors import Permanent
from libs.operations.actions import record_action
from libs.pipeline.outbox import announce

if TYPE_CHECKING:
    from libs.adapters.postgres import Connection, Row

__all__ = ["hold", "release", "request_close"]

_BATCH: Final = """
-- one row: the batch, kept from changing until the transaction ends
SELECT id, dataset, state, accepted, held_at, traceparent FROM ops.batches WHERE id = $1 FOR UPDATE
"""

_REQUEST_CLOSE: Final = """
-- one row per open batch that is asked to close, those asked before too
UPDATE ops.batches b SET close_reason = 'requested'
FROM (
    SELECT id FROM ops.batches
    WHERE state = 'open' AND ($1::uuid IS NULL OR id = $1) AND ($2::text IS NULL OR dataset = $2)
    ORDER BY id FOR UPDATE
) AS open WHERE b.id = open.id
RETURNING b.id
"""


async def request_close(
    connection: Connection,
    batch_id: uuid.UUID | None = None,
    *,
    dataset: str | None = None,
    reason: str,
    actor: str,
) -> list[uuid.UUID]:
    """Have an open batch, or every open one, closed now; any ingestor does it within a second of the commit.

    Returns:
        The batches that were open; none if that one was closed already.

    Raises:
        Permanent: there is no such batch, or no reason was given.
    """
    if batch_id is not None:
        await _locked(connection, batch_id)
    asked = [row["id"] for row in await connection.fetch(_REQUEST_CLOSE, batch_id, dataset)]
    for each in asked:
        await record_action(
            connection, actor=actor, action="batch.close", subject=batch_subject(each), reason=reason
        )
    return asked


async def hold(connection: Connection, batch_id: uuid.UUID, *, reason: str, actor: str) -> bool:
    """Leave a closed batch out of every generation built from now on; False if it was held already.

    A batch that readers see leaves their sight with the next generation, a full rebuild without it.

    Raises:
        Permanent: there is no such batch, it is still open, or no reason was given.
    """
    batch = await _locked(connection, batch_id)
    if batch["state"] != "closed":
        raise Permanent(f"batch {batch_id} is still open", fix=f"drp batches wait {batch_id}")
    if batch["held_at"] is not None:
        return False
    action = await record_action(
        connection, actor=actor, action="batch.hold", subject=batch_subject(batch_id), reason=reason
    )
    await connection.execute(
        "UPDATE ops.batches SET held_at = $2, held_reason = $3 WHERE id = $1", batch_id, action.at, reason
    )
    held = BatchHeld(
        dataset=batch["dataset"],
        started_at=action.at,
        ended_at=action.at,
        records=batch["accepted"],
        batch_id=batch_id,
        reason=reason,
    )
    await announce(
        connection,
        held,
        cause=action.cause,
        subject=batch_subject(batch_id),
        traceparent=batch["traceparent"],
    )
    return True


async def release(connection: Connection, batch_id: uuid.UUID, *, reason: str, actor: str) -> bool:
    """Put a held batch back: the next generation applies it. False if it wasn't held.

    Raises:
        Permanent: there is no such batch, or no reason was given.
    """
    batch = await _locked(connection, batch_id)
    if batch["held_at"] is None:
        return False
    action = await record_action(
        connection, actor=actor, action="batch.release", subject=batch_subject(batch_id), reason=reason
    )
    await connection.execute(
        "UPDATE ops.batches SET held_at = NULL, held_reason = NULL WHERE id = $1", batch_id
    )
    released = BatchReleased(
        dataset=batch["dataset"],
        started_at=action.at,
        ended_at=action.at,
        records=batch["accepted"],
        batch_id=batch_id,
        reason=reason,
    )
    await announce(
        connection,
        released,
        cause=action.cause,
        subject=batch_subject(batch_id),
        traceparent=batch["traceparent"],
    )
    return True


async def _locked(connection: Connection, batch_id: uuid.UUID) -> Row:
    batch = await connection.fetchrow(_BATCH, batch_id)
    if batch is None:
        raise Permanent(f"there is no batch {batch_id}", fix="drp batches ls")
    return batch
