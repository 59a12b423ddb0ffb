"""Two transformers, paused ones, killed ones: one candidate, one pointer, no stale generation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from libs.adapters.postgres.arrow import read_arrow
from libs.adapters.warehouse import Warehouse
from libs.contracts.events import WarehouseBuilt, WarehousePublished
from libs.errors import Permanent
from libs.operations.batches import hold
from libs.operations.warehouse import resume, rollback
from libs.pipeline.plan import make_plan
from libs.testing.waiting import until
from services.transformer.domain import Candidate
from services.transformer.store import TransformerStore
from tests.integration.transformer.room import Room, orders


class Gate:
    """Reads RAW as ever, but lets a test say when."""

    def __init__(self, url: str) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.left = threading.Event()
        self._read = partial(read_arrow, url)

    @contextmanager
    def __call__(self, sql: str) -> Iterator[Any]:
        self.reached.set()
        assert self.opened.wait(30)
        try:
            with self._read(sql) as rows:
                yield rows
        finally:
            self.left.set()


async def test_two_transformers_build_one_candidate(room: Room) -> None:
    await room.land(*orders("a"))
    other = room.transformer(consumer="t-2")
    await asyncio.gather(room.main.tend(), other.tend(), room.main.tend(), other.tend())
    assert await room.states() == ["built"]
    assert len(await room.announced(WarehouseBuilt)) == 1


async def test_two_transformers_publish_once(room: Room) -> None:
    for n in range(5):
        await room.land(*orders(f"o-{n}"))
        await room.main.tend()
        await room.judge()
        other = room.transformer(consumer="t-2")
        await asyncio.gather(room.main.tend(), other.tend(), other.tend())
    assert [event.version for event in await room.announced(WarehousePublished)] == [1, 2, 3, 4, 5]


async def test_a_builder_whose_lease_ran_out_counts_for_nothing(room: Room) -> None:
    gate = Gate(room.postgres.url)
    paused = room.transformer(consumer="t-2", read_raw=gate)
    await room.land(*orders("a"))
    building = asyncio.create_task(paused.tend())
    await until(gate.reached.is_set)
    await room.postgres.execute("UPDATE ops.generations SET lease_until = now() - interval '1 s'")

    await room.main.tend()
    assert await room.states() == ["abandoned"]
    await room.long_ago()
    await room.main.tend()
    assert await room.states() == ["abandoned", "built"]
    winner = (await room.generation())["file"]

    gate.opened.set()
    await building
    assert await room.states() == ["abandoned", "built"]
    assert room.warehouse.files() == {winner}
    assert len(await room.announced(WarehouseBuilt)) == 1


async def test_a_lease_is_kept_while_the_builder_lives(room: Room) -> None:
    gate = Gate(room.postgres.url)
    slow = room.transformer(consumer="t-2", read_raw=gate, lease=0.4)
    await room.land(*orders("a"))
    building = asyncio.create_task(slow.tend())
    await until(gate.reached.is_set)
    began = (await room.generation())["lease_until"]

    async def renewed() -> bool:
        return bool(((await room.generation())["lease_until"] - began).total_seconds() > 0.6)

    await until(renewed)
    await room.main.tend()
    assert await room.states() == ["building"]
    gate.opened.set()
    await building
    assert await room.states() == ["built"]


async def test_the_build_of_an_earlier_life_is_taken_over_at_once(room: Room) -> None:
    gate = Gate(room.postgres.url)
    earlier = room.transformer(read_raw=gate)
    await room.land(*orders("a"))
    building = asyncio.create_task(earlier.tend())
    await until(gate.reached.is_set)
    await room.transformer().tend()
    assert await room.states() == ["abandoned"]
    assert "its builder stopped" in (await room.generation())["error"]
    gate.opened.set()
    await building


async def test_a_build_that_is_stopped_leaves_nothing_and_begins_anew_at_once(room: Room) -> None:
    stop = threading.Event()
    gate = Gate(room.postgres.url)
    stopped = room.transformer(read_raw=gate, stopping=stop.is_set)
    await room.land(*orders("a"))
    building = asyncio.create_task(stopped.tend())
    await until(gate.reached.is_set)
    stop.set()
    gate.opened.set()
    await building
    assert (await room.generation())["error"] is None
    assert room.warehouse.files() == set()
    await room.transformer().tend()
    assert await room.states() == ["abandoned", "built"]


async def test_a_cancelled_build_clears_up_after_itself(room: Room) -> None:
    gate = Gate(room.postgres.url)
    cancelled = room.transformer(read_raw=gate)
    await room.land(*orders("a"))
    building = asyncio.create_task(cancelled.tend())
    await until(gate.reached.is_set)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    gate.opened.set()
    await until(gate.left.is_set)
    assert room.warehouse.files() == set()
    await room.transformer().tend()
    assert await room.states() == ["abandoned"]


async def test_a_paused_transformer_cannot_publish_on_what_it_saw_before(room: Room) -> None:
    await room.publish(orders("a"))
    await room.land(*orders("b"))
    await room.main.tend()
    await room.judge()
    paused = room.store(consumer="t-2")
    view = await paused.view()
    assert view.candidate is not None
    await room.main.tend()
    await room.publish(orders("c"))
    now = datetime.now(UTC)
    assert await paused.publish(view.candidate, view.pointer, began=now, traceparent="") is None
    assert await room.seen() == ["a", "b", "c"]


async def test_a_transformer_paused_after_its_commit_does_not_lead_readers_back(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.land(*orders("a"))
    await room.main.tend()
    await room.judge()
    committed, go_on = asyncio.Event(), asyncio.Event()
    publish = TransformerStore.publish

    async def publish_and_pause(store: TransformerStore, *args: Any, **named: Any) -> Any:
        published = await publish(store, *args, **named)
        committed.set()
        await go_on.wait()
        return published

    paused = room.transformer(consumer="t-2")
    with monkeypatch.context() as patch:
        patch.setattr(TransformerStore, "publish", publish_and_pause)
        publishing = asyncio.create_task(paused._step(await room.store().view()))
        await committed.wait()
    await room.publish(orders("b"))
    led: list[str] = []
    point = Warehouse.point_current_at

    def note(warehouse: Warehouse, file: str) -> bool:
        led.append(file)
        return point(warehouse, file)

    monkeypatch.setattr(Warehouse, "point_current_at", note)
    go_on.set()
    await publishing
    assert set(led) <= {(await room.generation())["file"]}
    assert await room.seen() == ["a", "b"]


async def test_a_transformer_that_saw_an_older_pointer_leads_readers_to_where_it_is_now(room: Room) -> None:
    await room.publish(orders("a"))
    seen = (await room.store().view()).pointer
    await room.publish(orders("b"))
    await room.transformer(consumer="t-2")._follow(seen)
    assert await room.seen() == ["a", "b"]


async def test_the_pointer_stays_while_somebody_moves_the_link(room: Room) -> None:
    await room.publish(orders("a"))
    await room.land(*orders("b"))
    await room.main.tend()
    await room.judge()
    async with room.store(consumer="t-2").pointer_held() as held:
        publishing = asyncio.create_task(room.main.tend())
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        await until(lambda: room.postgres.fetchval(waits))
        assert await room.current() == held.generation
    await publishing
    assert await room.seen() == ["a", "b"]


async def test_a_candidate_built_before_a_rollback_is_given_up(room: Room) -> None:
    await room.publish(orders("a"))
    await room.publish(orders("b"))
    await room.land(*orders("c"))
    await room.main.tend()
    await room.judge()
    store = room.store(consumer="t-2")
    view = await store.view()
    assert view.candidate is not None
    async with room.postgres.transaction() as connection:
        await rollback(connection, "orders", reason="wrong prices", actor="me")
    now = datetime.now(UTC)
    assert await store.publish(view.candidate, view.pointer, began=now, traceparent="") is None
    await room.main.tend()
    assert await room.states() == ["published", "retired", "abandoned"]
    assert await room.seen() == ["a"]


async def test_a_pointer_that_went_away_and_came_back_is_not_where_it_was(room: Room) -> None:
    first = await room.publish(orders("a"))
    second = await room.publish(orders("b"))
    await room.land(*orders("c"))
    await room.main.tend()
    await room.judge()
    paused = room.store(consumer="t-2")
    view = await paused.view()
    assert view.candidate is not None
    async with room.postgres.transaction() as connection:
        await rollback(connection, "orders", reason="wrong prices", actor="me")
        await rollback(connection, "orders", reason="they were right", actor="me", to=second)
        await resume(connection, "orders", actor="me")
    assert (await room.current(), view.candidate.parent) == (second, second)
    now = datetime.now(UTC)
    assert await paused.publish(view.candidate, view.pointer, began=now, traceparent="") is None
    assert (await room.generation(first))["state"] == "retired"


async def test_the_pointer_moves_to_nothing_but_the_file_that_passed_on_what_readers_see(room: Room) -> None:
    first, second = await room.publish(orders("a")), await room.publish(orders("b"))
    await room.land(*orders("c"))
    await room.main.tend()
    store = room.store(consumer="t-2")
    view = await store.view()
    assert view.candidate is not None

    async def published(candidate: Candidate) -> bool:
        pointer = (await store.view()).pointer
        event = await store.publish(candidate, pointer, began=datetime.now(UTC), traceparent="")
        return event is not None

    assert not await published(view.candidate), "without a verdict"
    await room.judge("fail")
    assert not await published(view.candidate), "blocked"
    await room.postgres.execute("UPDATE ops.generations SET state = 'passed' WHERE state = 'blocked'")
    assert not await published(view.candidate), "it did not pass, whatever its state says"
    await room.postgres.execute("UPDATE ops.generations SET verdict = 'pass' WHERE state = 'passed'")
    assert not await published(replace(view.candidate, sha256="another file")), "another file"
    async with room.postgres.transaction() as connection:
        await rollback(connection, "orders", reason="wrong prices", actor="me", to=first)
        await rollback(connection, "orders", reason="they were right", actor="me", to=second)
    assert not await published(view.candidate), "pinned"
    async with room.postgres.transaction() as connection:
        await rollback(connection, "orders", reason="wrong prices", actor="me", to=first)
        await resume(connection, "orders", actor="me")
    assert not await published(view.candidate), "built on what readers no longer see"
    assert await room.seen() == ["a", "b"]


async def test_a_batch_held_at_the_last_moment_is_not_published(room: Room) -> None:
    batch = await room.land(*orders("bad"))
    good = await room.land(*orders("good"))
    await room.main.tend()
    await room.judge()
    store = room.store(consumer="t-2")
    view = await store.view()
    assert view.candidate is not None
    async with room.postgres.transaction() as connection:
        await hold(connection, batch, reason="wrong prices", actor="me")
    now = datetime.now(UTC)
    assert await store.publish(view.candidate, view.pointer, began=now, traceparent="") is None

    await room.main.tend()
    newest = await room.generation()
    assert await room.states() == ["abandoned", "built"]
    assert await room.batches_of(newest["number"]) == {good}


async def test_a_plan_that_no_longer_holds_is_not_begun(room: Room) -> None:
    batch = await room.land(*orders("a"))
    store = room.store()
    view = await store.view()
    plan = make_plan(view.batches, parent=view.pointer.generation, fingerprint="f")
    assert plan is not None
    async with room.postgres.transaction() as connection:
        await hold(connection, batch, reason="wrong prices", actor="me")
    assert await store.begin(plan, attempt=1) is None
    assert await room.states() == []


async def test_what_somebody_writes_into_the_current_file_is_refused_by_its_mode(room: Room) -> None:
    await room.publish(orders("a"))
    path = room.warehouse.path_of((await room.generation())["file"])
    assert path.stat().st_mode & 0o222 == 0
    with pytest.raises(Permanent), room.warehouse.connect_read_only() as reader:
        reader.run("DELETE FROM staging.orders")
