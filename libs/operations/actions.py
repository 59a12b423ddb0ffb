"""What operators did, kept with who and why."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from libs.adapters.postgres import Connection
from libs.errors import Permanent

__all__ = ["Action", "record_action"]


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
    if not reason.strip():
        raise Permanent(f"{action} needs a reason", fix="--reason …")
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
