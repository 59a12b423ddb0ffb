"""What an operator does with the warehouse: rebuild it, go back and on again, override the gate.

Each function works in the caller's transaction: the change, the operator's action and the event that tells
of it commit together. The transformer sees the change in Postgres and moves files and link after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from libs.adapters.postgres import Connection, Row
from libs.contracts.events import WarehousePublished, generation_subject
from libs.errors import Permanent
from libs.operations.actions import record_action
from libs.pipeline.outbox import announce

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres

__all__ = ["accept", "acceptable", "request_rebuild", "resume", "rollback"]

_POINTER: Final = """
-- one row: the pointer, kept from moving until the transaction ends
SELECT generation, version, pinned_at FROM ops.warehouse_pointer WHERE dataset = $1 FOR UPDATE
"""

_TARGET: Final = """
-- one row: the generation to go back to; without a number, the newest published before the current one. Locked,
-- so that it isn't pruned until the transaction ends; one that was pruned just now is seen as such
SELECT g.number, g.state, g.sha256, g.staged, g.traceparent,
       ARRAY(SELECT gb.batch_id FROM ops.generation_batches gb WHERE gb.generation = g.number) AS batches
FROM ops.generations g
WHERE g.dataset = $1
  AND CASE WHEN $2::bigint IS NULL THEN g.state = 'retired' AND g.number < $3 ELSE g.number = $2 END
ORDER BY g.number DESC LIMIT 1
FOR UPDATE OF g
"""

_CARRY_AGAIN: Final = """
-- one row per batch that readers gain or lose: a generation carries what it and its parents applied, back to
-- the last full rebuild
WITH RECURSIVE chain AS (
    SELECT number, parent, kind FROM ops.generations WHERE number = $2
    UNION ALL
    SELECT g.number, g.parent, g.kind FROM ops.generations g JOIN chain c ON g.number = c.parent
    WHERE c.kind = 'incremental'
), carried AS (
    SELECT gb.batch_id, min(gb.generation) AS generation
    FROM ops.generation_batches gb JOIN chain ON chain.number = gb.generation GROUP BY gb.batch_id
), changed AS (
    SELECT b.id, c.generation FROM ops.batches b LEFT JOIN carried c ON c.batch_id = b.id
    WHERE b.dataset = $1 AND (b.generation IS NULL) <> (c.generation IS NULL)
)
UPDATE ops.batches b SET generation = changed.generation FROM changed WHERE b.id = changed.id
"""

_IN_THE_WAY: Final = """
-- one row: the generation, with what stands in the way of publishing it, and why that waits for `resume`
SELECT g.number, g.state, g.verdict, g.dataset, p.generation IS DISTINCT FROM g.parent AS parent_replaced,
       p.generation AS current, CASE WHEN p.pinned_at IS NOT NULL THEN p.pinned_reason END AS pinned,
       (SELECT c.number FROM ops.generations c
        WHERE c.dataset = g.dataset AND c.state IN ('building', 'built', 'passed')) AS candidate,
       (SELECT count(*) FROM ops.generation_batches gb JOIN ops.batches b ON b.id = gb.batch_id
        WHERE gb.generation = g.number AND b.held_at IS NOT NULL) AS held,
       (SELECT count(*) FROM ops.batches o
        WHERE g.kind = 'full' AND o.dataset = g.dataset AND o.generation IS NOT NULL AND o.held_at IS NULL
          AND NOT EXISTS (SELECT FROM ops.generation_batches gb
                          WHERE gb.generation = g.number AND gb.batch_id = o.id)) AS released
FROM ops.generations g LEFT JOIN ops.warehouse_pointer p ON p.dataset = g.dataset
WHERE g.number = $1
"""

_ACCEPTABLE: Final = _IN_THE_WAY + "FOR UPDATE OF g"


async def request_rebuild(
    connection: Connection, dataset: str, *, full: bool, actor: str, reason: str = "asked for"
) -> int:
    """Have the next generation built, whatever the gate said of it before; the request's number.

    Args:
        full: from all of RAW, rather than on top of the current generation. Only a full one needs no batch to
            apply; both make the marts anew.
    """
    kind = "full" if full else "incremental"
    number: int = await connection.fetchval(
        "INSERT INTO ops.rebuild_requests (dataset, kind) VALUES ($1, $2) RETURNING id", dataset, kind
    )
    await record_action(
        connection,
        actor=actor,
        action="warehouse.rebuild",
        subject=f"dataset:{dataset}",
        reason=reason,
        detail={"request": number, "kind": kind},
    )
    return number


async def rollback(
    connection: Connection, dataset: str, *, reason: str, actor: str, to: int | None = None
) -> int:
    """Show readers an earlier generation, and publish nothing until `resume`; the generation's number.

    Batches that it does not carry wait again: the first build after `resume` applies them.

    Args:
        to: a generation that was published once and is still kept; the one before the current if None.

    Raises:
        Permanent: there is no such generation, it was never published, or it was pruned.
    """
    pointer = await connection.fetchrow(_POINTER, dataset)
    if pointer is None or pointer["generation"] is None:
        raise Permanent(f"nothing of {dataset} is published", fix="drp warehouse ls")
    target = _checked(await connection.fetchrow(_TARGET, dataset, to, pointer["generation"]), to)
    action = await record_action(
        connection,
        actor=actor,
        action="warehouse.rollback",
        subject=generation_subject(target["number"]),
        reason=reason,
        detail={"dataset": dataset, "from": pointer["generation"]},
    )
    await connection.execute(
        """
        UPDATE ops.warehouse_pointer
        SET generation = $2, version = version + 1, moved_at = $3, pinned_at = $3, pinned_reason = $4
        WHERE dataset = $1
        """,
        dataset,
        target["number"],
        action.at,
        reason,
    )
    await connection.execute(
        "UPDATE ops.generations SET state = 'retired' WHERE number = $1", pointer["generation"]
    )
    await connection.execute(
        "UPDATE ops.generations SET state = 'published' WHERE number = $1", target["number"]
    )
    await connection.execute(_CARRY_AGAIN, dataset, target["number"])
    published = WarehousePublished(
        dataset=dataset,
        started_at=action.at,
        ended_at=action.at,
        records=target["staged"] or 0,
        generation=target["number"],
        version=pointer["version"] + 1,
        batches=target["batches"],
        sha256=target["sha256"],
        reason="rollback",
    )
    await announce(
        connection,
        published,
        cause=action.cause,
        subject=generation_subject(target["number"]),
        traceparent=target["traceparent"],
    )
    return int(target["number"])


async def resume(
    connection: Connection, dataset: str, *, actor: str, reason: str = "publishing goes on"
) -> bool:
    """Let generations be published again; False if nothing kept them."""
    pointer = await connection.fetchrow(_POINTER, dataset)
    if pointer is None or pointer["pinned_at"] is None:
        return False
    await connection.execute(
        "UPDATE ops.warehouse_pointer SET pinned_at = NULL, pinned_reason = NULL WHERE dataset = $1", dataset
    )
    await record_action(
        connection, actor=actor, action="warehouse.resume", subject=f"dataset:{dataset}", reason=reason
    )
    return True


async def accept(connection: Connection, generation: int, *, reason: str, actor: str) -> str | None:
    """Override the gate: have a blocked generation published all the same. The transformer does it, after the commit.

    It must stand on what readers see, since it is that and its own batches. So one that a rollback has put back on its
    parent can be accepted as before: neither what it is nor what the gate compared it with has changed.

    Returns:
        Why nothing is published before `resume`; None if nothing pins the warehouse.

    Raises:
        Permanent: it isn't blocked, could not be judged, or no longer fits on what readers are to see.
    """
    row = await connection.fetchrow(_ACCEPTABLE, generation)
    if row is None or (obstacle := _obstacle(row)) is not None:
        why = "there is no such generation" if row is None else obstacle
        raise Permanent(f"generation {generation} can not be accepted", why=why, fix="drp warehouse ls")
    await record_action(
        connection,
        actor=actor,
        action="quality.accept",
        subject=generation_subject(generation),
        reason=reason,
    )
    await connection.execute(
        "UPDATE ops.generations SET state = 'passed', override_reason = $2 WHERE number = $1",
        generation,
        reason,
    )
    pinned: str | None = row["pinned"]
    return pinned


async def acceptable(postgres: Postgres, generation: int) -> bool:
    """Whether `accept` would take the generation now."""
    row = await postgres.fetchrow(_IN_THE_WAY, generation)
    return row is not None and _obstacle(row) is None


def _checked(target: Row | None, wanted: int | None) -> Row:
    if target is None:
        what = "no earlier generation is kept" if wanted is None else f"there is no generation {wanted}"
        raise Permanent(what, fix="drp warehouse ls")
    if target["state"] != "retired":
        what = f"generation {target['number']} is {target['state']}"
        raise Permanent(what, why="only one that was published and is still kept can come back")
    return target


def _obstacle(row: Row) -> str | None:
    """Why the transformer would not publish it, were it accepted."""
    if row["state"] != "blocked":
        return f"it is {row['state']}"
    if row["verdict"] != "fail":
        return "it could not be judged, and what was not judged is never published"
    if row["parent_replaced"]:
        return f"it was built on a generation that readers no longer see (now {row['current']})"
    if row["held"]:
        return f"{row['held']} of its batches were held since it was built"
    if row["released"]:
        return f"{row['released']} batches that it leaves out were released since it was planned"
    if row["candidate"] is not None:
        return f"generation {row['candidate']} is on its way"
    return None
