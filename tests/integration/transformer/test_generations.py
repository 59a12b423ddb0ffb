"""From closed batches to what readers see, and everything that must not get there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.adapters.postgres import ensure_raw
from libs.adapters.telemetry import trace_id_of
from libs.adapters.warehouse import sha256_of
from libs.contracts.events import StepFailed, WarehouseBuilt, WarehousePublished
from libs.datasets import Column, ColumnType
from libs.errors import Transient
from libs.operations.warehouse import request_rebuild
from tests.integration.transformer.room import Order, Room, orders

TRACES = [f"00-{n:032x}-{n:016x}-01" for n in (1, 2)]


async def test_closed_batches_become_one_candidate_and_that_what_readers_see(room: Room) -> None:
    first = await room.land(*orders("a", "b"), traceparent=TRACES[0])
    second = await room.land(Order("c"), Order("d", "-1.00"), traceparent=TRACES[1])
    await room.main.tend()

    built = await room.generation()
    path = room.warehouse.path_of(built["file"])
    assert (built["state"], built["kind"], built["parent"]) == ("built", "full", None)
    assert (built["staged"], built["rejected"], built["superseded"], built["raw_rows"]) == (3, 1, 0, 4)
    assert (built["sha256"], built["bytes"]) == (sha256_of(path), path.stat().st_size)
    assert [entry.name for entry in room.warehouse.folder.iterdir()] == [path.name]
    assert trace_id_of(built["traceparent"]) == trace_id_of(TRACES[0])
    assert await room.current() is None

    [event] = await room.announced(WarehouseBuilt)
    assert (event.generation, event.batches, event.records, event.sha256) == (
        built["number"],
        [first, second],
        4,
        built["sha256"],
    )

    await room.judge()
    await room.main.tend()
    assert await room.current() == built["number"]
    assert await room.carrier(first) == await room.carrier(second) == built["number"]
    assert await room.seen() == ["a", "b", "c"]
    [published] = await room.announced(WarehousePublished)
    assert (published.generation, published.version, published.reason) == (built["number"], 1, "passed")
    assert set(published.batches) == {first, second}


async def test_the_next_batches_go_on_top_and_give_what_a_full_rebuild_gives(room: Room) -> None:
    first = await room.publish([Order("a", "-1.00"), Order("b", "2.00", 5)])
    second = await room.publish([Order("a", "1.00", 1), Order("b", "3.00", 4)], [Order("c")])
    grown = await room.generation(second)
    assert (grown["kind"], grown["parent"], await room.states()) == (
        "incremental",
        first,
        ["retired", "published"],
    )

    async with room.postgres.transaction() as connection:
        await request_rebuild(connection, "orders", full=True, actor="me")
    await room.main.tend()
    anew = await room.generation()
    same = ("staged", "rejected", "superseded", "raw_rows", "staging_hash", "analytics_hash", "watermark")
    assert (anew["kind"], anew["parent"]) == ("full", second)
    assert {name: anew[name] for name in same} == {name: grown[name] for name in same}
    assert len(await room.batches_of(anew["number"])) == 3
    answered = await room.postgres.fetchval("SELECT generation FROM ops.rebuild_requests")
    assert answered == anew["number"]


async def test_without_anything_new_nothing_is_built(room: Room) -> None:
    await room.publish(orders("a"))
    await room.main.tend()
    assert await room.states() == ["published"]


@pytest.mark.parametrize("verdict", ["fail", "error"])
async def test_only_what_passed_is_published(room: Room, verdict: str) -> None:
    await room.publish(orders("a"))
    await room.land(*orders("b"))
    await room.main.tend()
    await room.main.tend()
    assert await room.states() == ["published", "built"]
    await room.judge(verdict)
    await room.main.tend()
    assert await room.seen() == ["a"]


async def test_a_blocked_plan_waits_for_something_new(room: Room) -> None:
    blocked = await room.land(*orders("bad"))
    await room.main.tend()
    await room.judge("fail")
    await room.long_ago()
    await room.main.tend()
    assert await room.states() == ["blocked"]

    correction = await room.land(*orders("good"))
    await room.main.tend()
    newest = await room.generation()
    assert (newest["state"], await room.batches_of(newest["number"])) == ("built", {blocked, correction})


async def test_a_blocked_plan_is_built_again_when_an_operator_asks(room: Room) -> None:
    await room.land(*orders("bad"))
    await room.main.tend()
    await room.judge("fail")
    async with room.postgres.transaction() as connection:
        await request_rebuild(connection, "orders", full=False, actor="me")
    await room.main.tend()
    assert await room.states() == ["blocked", "built"]
    assert (await room.generation())["attempt"] == 2


async def test_a_candidate_that_could_not_be_judged_is_built_again_three_times_in_all(room: Room) -> None:
    await room.land(*orders("a"))
    for attempt in (1, 2, 3):
        await room.main.tend()
        assert (await room.generation())["attempt"] == attempt
        await room.judge("error")
        await room.main.tend()
        assert (await room.generation())["state"] == "blocked", "it did not pause"
        await room.long_ago()
    await room.main.tend()
    assert await room.states() == ["blocked"] * 3
    async with room.postgres.transaction() as connection:
        await request_rebuild(connection, "orders", full=False, actor="me")
    await room.main.tend()
    assert (await room.generation())["state"] == "built"


async def test_a_mart_that_fails_is_told_once_and_tried_again_with_a_pause(room: Room) -> None:
    batch = await room.land(*orders("a"))
    broken = room.transformer(dataset=replace(room.dataset, marts={"bad": "SELECT nope FROM staging.orders"}))
    for _ in range(3):
        await broken.tend()
    assert await room.states() == ["abandoned"]
    await room.long_ago()
    await broken.tend()
    assert await room.states() == ["abandoned", "abandoned"]
    assert "mart bad of orders failed" in (await room.generation())["error"]
    assert list(room.warehouse.folder.iterdir()) == []
    [failed] = await room.announced(StepFailed)
    assert (failed.step, failed.batch_id, failed.attempt) == ("transform", batch, 1)

    repaired = room.transformer(dataset=replace(room.dataset, fingerprint="repaired"))
    await repaired.tend()
    assert (await room.generation())["state"] == "built"


async def test_a_build_that_cannot_be_done_now_is_done_later_with_the_request_it_answers(room: Room) -> None:
    await room.publish(orders("a"))
    async with room.postgres.transaction() as connection:
        await request_rebuild(connection, "orders", full=True, actor="me")

    def unavailable(_: str) -> object:
        raise Transient("Postgres did not answer")

    await room.transformer(read_raw=unavailable).tend()  # type: ignore[arg-type]
    assert await room.states() == ["published", "abandoned"]
    assert await room.announced(StepFailed) == []
    await room.main.tend()
    assert await room.states() == ["published", "abandoned"], "it did not pause"
    await room.postgres.execute(
        "UPDATE ops.generations SET lease_until = lease_until - interval '3 s' WHERE state = 'abandoned'"
    )
    await room.main.tend()
    newest = await room.generation()
    assert (newest["state"], newest["kind"]) == ("built", "full")


async def test_a_changed_file_is_never_published(room: Room) -> None:
    await room.land(*orders("a"))
    await room.main.tend()
    path = room.warehouse.path_of((await room.generation())["file"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    await room.judge()
    await room.main.tend()
    assert await room.current() is None
    assert "was changed after it was built" in (await room.generation())["error"]


async def test_a_required_archive_is_waited_for(room: Room) -> None:
    room.archive = "required"
    transformer = room.transformer()
    batch = await room.land(*orders("a"))
    await transformer.tend()
    await room.judge()
    await transformer.tend()
    assert await room.states() == ["passed"]
    await room.postgres.execute("UPDATE ops.batches SET archived_at = now() WHERE id = $1", batch)
    await transformer.tend()
    assert await room.states() == ["published"]


async def test_generations_beyond_the_count_go_once_they_are_archived(room: Room) -> None:
    room.keep = 2
    room.main = room.transformer()
    numbers = [await room.publish(orders(f"o-{n}")) for n in range(5)]
    assert await room.states() == ["retired"] * 4 + ["published"]
    await room.postgres.execute(
        "UPDATE ops.generations SET archive_state = 'superseded' WHERE state = 'retired'"
    )
    numbers.append(await room.publish(orders("o-5")))
    assert await room.states() == ["pruned"] * 3 + ["retired"] * 2 + ["published"]
    kept = {(await room.generation(number))["file"] for number in numbers[3:]}
    assert room.warehouse.files() == kept


async def test_files_that_no_generation_owns_are_cleared_away(room: Room) -> None:
    await room.publish(orders("a"))
    room.warehouse.path_of("gen-000999-1.duckdb").write_bytes(b"left by a kill")
    await room.transformer().tend()
    assert room.warehouse.files() == {(await room.generation())["file"]}


async def test_a_link_that_is_gone_or_leads_astray_is_put_right(room: Room) -> None:
    first = await room.publish(orders("a"))
    await room.publish(orders("b"))
    room.warehouse.current_link.unlink()
    await room.main.tend()
    assert await room.seen() == ["a", "b"]
    room.warehouse.point_current_at((await room.generation(first))["file"])
    await room.main.tend()
    assert await room.seen() == ["a", "b"]


async def test_a_current_file_that_is_lost_is_rebuilt_from_raw(room: Room) -> None:
    await room.publish(orders("a"))
    room.warehouse.path_of((await room.generation())["file"]).unlink()
    await room.main.tend()
    await room.judge()
    await room.main.tend()
    assert await room.states() == ["retired", "published"]
    assert await room.seen() == ["a"]


async def test_other_row_rules_make_the_next_build_a_full_one(room: Room) -> None:
    await room.publish([Order("a", "-1.00")])
    changed = room.transformer(dataset=replace(room.dataset, row_rules=(), fingerprint="changed"))
    await room.land(*orders("b"))
    await changed.tend()
    newest = await room.generation()
    assert (newest["kind"], newest["staged"], newest["rejected"]) == ("full", 2, 0)


async def test_a_new_optional_column_needs_no_downtime(room: Room) -> None:
    await room.publish(orders("a"))
    note = Column(field="note", name="note", type=ColumnType.STRING, required=False)
    room.dataset = replace(room.dataset, columns=(*room.dataset.columns, note), fingerprint="with note")
    async with room.postgres.transaction() as connection:
        await ensure_raw(connection, room.dataset)
    batch = await room.land(*orders("b"))
    await room.postgres.execute("UPDATE raw.orders_raw SET note = 'hello' WHERE batch_id = $1", batch)
    room.main = room.transformer()
    await room.main.tend()
    assert (await room.generation())["kind"] == "incremental"
    await room.judge()
    await room.main.tend()
    with room.warehouse.connect_read_only() as reader:
        rows = reader.rows("SELECT source_order_id, note FROM staging.orders ORDER BY 1")
    assert rows == [("a", None), ("b", "hello")]
