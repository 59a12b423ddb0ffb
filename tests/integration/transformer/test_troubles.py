"""What goes wrong while a generation is built: told without its values, waited out, and found fast."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.contracts.events import StepFailed, decode_event
from libs.errors import Transient
from services.audit.domain import step_of
from services.transformer import statements
from tests.integration.transformer.room import Order, Room, orders

PLANTED = "alice@secret.example"


async def test_a_value_that_the_model_chokes_on_is_quoted_nowhere(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    number = "CAST(CAST(source_order_id AS INTEGER) AS VARCHAR)"
    staging = f"SELECT landed.* REPLACE ({number} AS source_order_id) FROM landed"
    await room.land(Order(PLANTED))
    await room.transformer(dataset=replace(room.dataset, staging_sql=staging)).tend()

    error = (await room.generation())["error"]
    assert "Conversion Error (column source_order_id)" in error
    document = await room.postgres.fetchval(
        "SELECT document FROM ops.outbox WHERE type = $1", StepFailed.type
    )
    row = step_of(*decode_event(document), trace_id=None)
    assert "Conversion Error" in (row.error or "")
    assert "could not be built" in caplog.text
    for told in (error, document.decode(), str(row), caplog.text):
        assert PLANTED not in told


async def test_a_file_that_cannot_be_removed_is_tried_again(room: Room) -> None:
    await room.publish(orders("a"))
    stubborn = room.warehouse.path_of("gen-999999-1.duckdb")
    stubborn.mkdir()
    again = room.transformer()
    with pytest.raises(Transient, match="could not remove"):
        await again.tend()
    stubborn.rmdir()
    await again.tend()
    assert await room.seen() == ["a"]


async def test_what_there_is_to_do_is_found_without_reading_every_batch(room: Room) -> None:
    await room.postgres.execute(
        """
        INSERT INTO ops.batches (id, dataset, state, opened_by, closed_at, close_reason, received, accepted,
                                 generation, archived_at)
        SELECT gen_random_uuid(), 'orders', 'closed', 'test', now(), 'age', 1, 1, 1, now()
        FROM generate_series(1, 20000)
        """
    )
    await room.land(*orders("a"))
    await room.postgres.execute(
        "UPDATE ops.batches SET held_at = now() WHERE id IN (SELECT id FROM ops.batches LIMIT 1)"
    )
    await room.postgres.execute("ANALYZE ops.batches")
    lines = await room.postgres.fetch(
        f"EXPLAIN {statements.PROMPTS.strip().partition(chr(10))[2]}", room.dataset.name
    )
    plan = "\n".join(row[0] for row in lines)
    assert "Seq Scan" not in plan
    assert "batches_outcast" in plan
