"""A test alert: does what goes wrong reach a person?"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Final

from libs.adapters.postgres import Postgres
from libs.errors import Permanent, Transient
from libs.operations.actions import record_action

__all__ = ["AlertOutcome", "send_test_alert"]

_EVERY: Final = 0.1

_INSERT: Final = """
-- one row: the test alert
INSERT INTO ops.alerts (dedupe_key, event_type, flow_name, flow_run_id, error_message, metadata)
VALUES ($1, 'alert.test', 'alert', $1,
        'This is a test: alerts of the Data Reliability Platform reach you here.',
        jsonb_build_object('test', true))
RETURNING id
"""

_LOOK: Final = "SELECT state, attempts, last_error FROM ops.alerts WHERE id = $1"


@dataclass(frozen=True, slots=True)
class AlertOutcome:
    """What became of an alert: state is sent or unsent, attempts counts POSTs, error says why unsent."""

    id: int
    state: str
    attempts: int
    error: str | None


async def send_test_alert(postgres: Postgres, *, actor: str, wait: float = 15.0) -> AlertOutcome:
    """Put a test alert on the way that real ones take, and wait until audit has sent it or given it up.

    Args:
        wait: seconds.

    Raises:
        Transient: it is still on its way; says what the last attempt met.
    """
    key = f"alert.test:{uuid.uuid4()}"
    async with postgres.transaction() as connection:
        number = await connection.fetchval(_INSERT, key)
        await record_action(connection, actor=actor, action="alert.test", subject=key, reason="asked for")
    deadline = asyncio.get_running_loop().time() + wait
    while True:
        row = await postgres.fetchrow(_LOOK, number)
        if row is None:
            raise Permanent(f"alert {number} is gone from ops.alerts")
        if row["state"] != "pending":
            return AlertOutcome(number, row["state"], row["attempts"], row["last_error"])
        if asyncio.get_running_loop().time() > deadline:
            raise Transient(
                f"the test alert is not sent after {wait:g} s",
                why=row["last_error"] or "no sender took it",
                fix="drp status --health (is audit alive?)",
            )
        await asyncio.sleep(_EVERY)
