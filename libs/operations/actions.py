"""What operators did, kept with who and why."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from libs.errors import Permanent

if TYPE_CHECKING:
    from libs.adapters.postgres import Connection, Postgres

__all__ = ["Action", "acting", "actions_on", "record_action", "record_actions"]

_ONE_FOR_EACH: Final = """
-- one row per subject: the action
INSERT INTO ops.operator_actions (actor, action, subject, reason, detail)
SELECT $1, $2, s.subject, $4, s.detail FROM unnest($3::text[], $5::jsonb[]) AS s (subject, detail)
"""

_ON: Final = """
-- one row per action on one of the subjects, oldest first
SELECT at, actor, action, subject, reason, detail FROM ops.operator_actions
WHERE subject = ANY($1::text[]) ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Action:
    """A recorded action. cause is what the events that follow from it are derived from."""

    id: int
    at: datetime

    @property
    def cause(self) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:drp:action:{self.id}")


async def record_action(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    detail: Mapping[str, object] | None = None,
) -> Action:
    """Keep the action, in the caller's transaction, with which it stands or falls.

    Raises:
        Permanent: no reason was given.
    """
    _check_reason(action, reason)
    row = await connection.fetchrow(
        """
        -- one row: the action
        INSERT INTO ops.operator_actions (actor, action, subject, reason, detail) VALUES ($1, $2, $3, $4, $5)
        RETURNING id, at
        """,
        actor,
        action,
        subject,
        reason,
        dict(detail or {}),
    )
    if row is None:
        raise Permanent(f"{action} could not be recorded")
    return Action(row["id"], row["at"])


async def record_actions(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subjects: Mapping[str, Mapping[str, object]],
    reason: str,
) -> None:
    """As record_action, of many subjects, each with its detail."""
    _check_reason(action, reason)
    details = [dict(detail) for detail in subjects.values()]
    await connection.execute(_ONE_FOR_EACH, actor, action, list(subjects), reason, details)


async def actions_on(postgres: Postgres, *subjects: str) -> list[dict[str, Any]]:
    """What operators did with any of the subjects (`batch:…`, `generation:…`, `dataset:…`, `quarantine:…`)."""
    return [dict(row) for row in await postgres.fetch(_ON, list(subjects))]


@asynccontextmanager
async def acting(postgres: Postgres, *, dry_run: bool = False) -> AsyncIterator[Connection]:
    """A transaction for an operator's action; with dry_run it is rolled back, and so everything in it is a plan."""
    async with postgres.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if dry_run else transaction.commit())


def _check_reason(action: str, reason: str) -> None:
    if not reason.strip():
        raise Permanent(f"{action} needs a reason", fix="--because …")
