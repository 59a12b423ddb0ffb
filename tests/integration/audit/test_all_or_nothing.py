"""The row of a step, its alert and the inbox stand or fall together."""

from __future__ import annotations

from uuid import uuid4

import pytest

from libs.adapters.postgres import Postgres
from libs.contracts.events import generation_subject
from libs.errors import DrpError
from services.audit.handlers import hear
from services.audit.store import AuditStore
from tests.integration.audit.test_audit import an_entry, blocked

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$
"""


async def written(postgres: Postgres) -> list[int]:
    return [
        await postgres.fetchval(f"SELECT count(*) FROM ops.{table}")
        for table in ("inbox", "pipeline_flow_audit", "alerts")
    ]


@pytest.mark.parametrize(
    "trigger",
    [
        pytest.param("CREATE TRIGGER refuse BEFORE INSERT ON ops.alerts", id="its last statement fails"),
        pytest.param(
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON ops.alerts DEFERRABLE INITIALLY DEFERRED",
            id="its commit fails",
        ),
    ],
)
async def test_a_step_whose_alert_cannot_be_stored_leaves_nothing_and_is_recorded_the_next_time(
    postgres: Postgres, store: AuditStore, trigger: str
) -> None:
    entry = an_entry(blocked(4, uuid4()), generation_subject(4))
    await postgres.execute(REFUSE)
    await postgres.execute(f"{trigger} FOR EACH ROW EXECUTE FUNCTION refuse()")

    with pytest.raises(DrpError):
        await hear([entry], store=store)
    assert await written(postgres) == [0, 0, 0]

    await postgres.execute("DROP TRIGGER refuse ON ops.alerts")
    assert len(await hear([entry], store=store)) == 1
    assert await hear([entry], store=store) == []
    assert await written(postgres) == [1, 1, 1]
