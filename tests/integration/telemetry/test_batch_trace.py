"""The trace of a batch is found through Postgres, fetched from a real trace store, and put together."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from libs.adapters.postgres import Postgres
from libs.adapters.telemetry import span
from libs.errors import Permanent, Transient
from libs.operations import trace
from libs.operations.trace import batch_trace, fetch_traces
from libs.runtime.processes import free_port
from tests.integration.telemetry.conftest import Start


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(postgres_url, service="tested")
    yield opened
    await opened.close()


async def a_batch(postgres: Postgres, traceparent: str | None) -> uuid.UUID:
    batch_id = uuid.uuid4()
    await postgres.execute(
        "INSERT INTO ops.batches (id, dataset, opened_by, traceparent) VALUES ($1, 'orders', 'test', $2)",
        batch_id,
        traceparent,
    )
    return batch_id


async def a_generation(postgres: Postgres, traceparent: str, *batches: uuid.UUID) -> None:
    number = await postgres.fetchval(
        "INSERT INTO ops.generations (dataset, kind, plan_hash, traceparent, cause)"
        " VALUES ('orders', 'incremental', 'p', $1, $2) RETURNING number",
        traceparent,
        uuid.uuid4(),
    )
    for batch_id in batches:
        await postgres.execute(
            "INSERT INTO ops.generation_batches (generation, batch_id) VALUES ($1, $2)", number, batch_id
        )


async def test_two_batches_that_became_one_generation_both_find_it(
    start: Start, traces: str, postgres: Postgres
) -> None:
    telemetry = start("tested", traces)
    with span("publish", root=True) as producer:
        pass
    with span("ingest", root=True, links=[producer.traceparent]) as older:
        pass
    with span("ingest", root=True, links=[producer.traceparent]) as younger:
        pass
    with span("transform", parent=older.traceparent, links=[younger.traceparent]) as build:
        pass
    telemetry.flush()
    first, second = await a_batch(postgres, older.traceparent), await a_batch(postgres, younger.traceparent)
    await a_generation(postgres, build.traceparent, first, second)

    of_first = await batch_trace(postgres, traces, first)
    of_second = await batch_trace(postgres, traces, second)
    assert of_first.traces == [older.trace_id]
    assert of_second.traces == [younger.trace_id, older.trace_id]
    shown = [(step.name, step.trace_id, step.linked) for step in of_second.steps]
    assert shown == [
        ("ingest", younger.trace_id, False),
        ("ingest", older.trace_id, False),
        ("transform", older.trace_id, False),
        ("publish", producer.trace_id, True),
    ]
    assert ("ingest", younger.trace_id, True) in [(s.name, s.trace_id, s.linked) for s in of_first.steps]
    assert of_second.missing == []


async def test_spans_that_never_came_are_named(traces: str, postgres: Postgres) -> None:
    lost = f"00-{'7' * 32}-{'8' * 16}-01"
    found = await batch_trace(postgres, traces, await a_batch(postgres, lost))
    assert found.missing == ["7" * 32]
    assert found.steps == []


async def test_traces_are_asked_for_in_pieces_and_a_short_id_is_the_same_as_a_long_one(
    start: Start, traces: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "AT_ONCE", 1)
    telemetry = start("tested", traces)
    with span("of 64 bits", parent=f"00-{'1' * 16:0>32}-{'2' * 16}-01"):
        pass
    with span("of 128 bits", root=True) as long:
        pass
    telemetry.flush()

    found = await fetch_traces(traces, ["1" * 16, "9" * 32, long.trace_id])
    names = {trace_id: [one.name for one in spans] for trace_id, spans in found.items()}
    assert names == {"1" * 16: ["of 64 bits"], "9" * 32: [], long.trace_id: ["of 128 bits"]}


async def test_an_open_batch_has_no_trace_yet(traces: str, postgres: Postgres) -> None:
    with pytest.raises(Permanent, match="no trace yet"):
        await batch_trace(postgres, traces, await a_batch(postgres, None))


async def test_without_a_trace_store_it_is_said_how_to_name_one(postgres: Postgres) -> None:
    with pytest.raises(Permanent, match="DRP_TRACES_URL"):
        await batch_trace(postgres, None, uuid.uuid4())


async def test_a_store_that_is_down_may_be_asked_again() -> None:
    with pytest.raises(Transient, match="does not answer"):
        await fetch_traces(f"http://127.0.0.1:{free_port()}", ["1" * 32])
