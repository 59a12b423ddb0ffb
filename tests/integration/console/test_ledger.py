"""The ledger's pages: empty, busy, with each server away, and where something does not balance."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from libs.testing.servers import RestartableRedis
from libs.testing.waiting import until
from services.console import doors
from services.console.looks import counted
from tests.integration.archiver.works import Works, an_event, orders_placed
from tests.integration.console.conftest import Console

Opened = Callable[..., Console]


async def a_batch(works: Works, *, start: int = 0) -> str:
    """Published and archived: 20 orders, one twice, and one that the contract refuses; its id."""
    await works.objects.ensure_bucket()
    orders = orders_placed(20, start=start)
    batch = await works.land(*orders, orders[0], an_event(f"bad-{start}", amount="x"))
    await works.publish()
    await works.archive()
    return str(batch["id"])


async def lose(works: Works, order: str) -> str:
    """As no service would: delete an order's row in RAW; the id of its event."""
    lost = await works.postgres.fetchval(
        "DELETE FROM raw.orders_raw WHERE source_order_id = $1 RETURNING event_id", order
    )
    assert lost is not None
    return str(lost)


def sides(page: Any, batch: str) -> dict[str, Any]:
    (row,) = [row for row in page["batches"] if row["id"] == batch]
    return {cell["name"]: cell for cell in row["cells"]}


def as_served(seen: Console, works: Works) -> Console:
    """The console finds the generations' files where the works build them."""
    assert works.root == seen.room.doors.settings.home / "warehouse"
    return seen


async def test_an_empty_ledger_says_how_to_begin(console: Opened) -> None:
    said = await console().text("/ledger")
    assert "Nothing to balance yet" in said
    assert "drp publish --file tests/data/cdnow_orders.csv.gz" in said


async def test_what_balances_says_so_and_each_side_is_counted(console: Opened, works: Works) -> None:
    batch = await a_batch(works)
    page = await as_served(console(), works).json("/api/ledger")
    found = sides(page, batch)
    assert {name: (cell["state"], cell["count"]) for name, cell in found.items()} == {
        "producer": ("equal", 1),
        "stream": ("equal", 22),
        "raw": ("equal", 22),
        "staging": ("equal", 20),
        "mart": ("equal", 1),
        "archive": ("equal", 21),
    }
    assert found["staging"]["parts"] == [["staged", 20]]
    assert page["generations"][0]["raw_rows"] == 20
    assert {folder["root"] for folder in page["folders"]} == {"raw", "analytics"}
    assert page["missing"] == []


async def test_a_version_that_was_superseded_is_told_of_the_batch_that_brought_it(
    console: Opened, works: Works
) -> None:
    first = await a_batch(works)
    later = {**an_event("o-3", amount="9.00"), "time": "2031-01-01T00:00:00Z"}
    await works.land(later)
    await works.publish()
    found = sides(await console().json("/api/ledger"), first)
    assert found["staging"]["parts"] == [["staged", 19], ["superseded", 1]]
    assert found["staging"]["state"] == "equal"


async def test_a_row_that_raw_lost_is_marked_and_its_event_is_named(console: Opened, works: Works) -> None:
    sound, broken = await a_batch(works), await a_batch(works, start=100)
    lost = await lose(works, "o-103")
    seen = console()
    page = await seen.json("/api/ledger")
    assert [row["id"] for row in page["batches"]] == [broken, sound]
    assert {
        name: cell["state"] for name, cell in sides(page, broken).items() if cell["state"] != "equal"
    } == {"raw": "differs"}
    assert {cell["state"] for cell in sides(page, sound).values()} == {"equal"}
    assert page["verdict"]["state"] == "differs"

    body = await seen.page("/ledger")
    assert "20 accepted, 19 rows in RAW" in body
    assert f'href="/ledger/{broken}?cell=raw"' in body
    (told,) = (await seen.json(f"/api/ledger/{broken}?cell=raw"))["apart"]
    assert (told["there"], told["lacking"], told["count"]) == ("the archive", "RAW", 1)
    assert [event["event_id"] for event in told["events"]] == [lost]
    said = await seen.text(f"/ledger/{broken}?cell=raw")
    assert "In the archive, not in RAW 1 event" in said
    assert lost in said
    assert f"drp ledger show {broken}" in said


async def test_before_it_is_archived_the_generation_names_what_raw_lost(
    console: Opened, works: Works
) -> None:
    batch = str((await works.land(*orders_placed(5)))["id"])
    await works.publish()
    lost = await lose(works, "o-2")
    (told,) = (await console().json(f"/api/ledger/{batch}"))["apart"]
    assert (told["there"], told["lacking"]) == ("the generation", "RAW")
    assert [event["event_id"] for event in told["events"]] == [lost]


async def test_an_archive_that_lost_its_record_has_none_of_the_events(console: Opened, works: Works) -> None:
    batch = await a_batch(works)
    await works.postgres.execute("DELETE FROM ops.archive_objects WHERE batch_id = $1", uuid.UUID(batch))
    seen = console()
    found = (await seen.json(f"/api/ledger/{batch}"))["apart"]
    assert [(each["there"], each["lacking"], each["count"]) for each in found] == [
        ("RAW", "the archive", 20),
        ("quarantine", "the archive", 1),
    ]
    assert "both sides have the same" not in await seen.text(f"/ledger/{batch}")


async def test_what_differs_before_there_is_another_side_says_so(console: Opened, works: Works) -> None:
    batch = str((await works.land(*orders_placed(5)))["id"])
    await lose(works, "o-2")
    not_yet = "the batch is not archived, and readers don't see it yet"
    assert not_yet in await console().text(f"/ledger/{batch}")
    await works.objects.ensure_bucket()
    batch = str((await works.land(*orders_placed(5, start=5)))["id"])
    await works.archive()
    await lose(works, "o-7")
    (told,) = (await console().json(f"/api/ledger/{batch}?cell=staging"))["apart"]
    assert (told["there"], told["lacking"], told["count"]) == ("the archive", "RAW", 1)
    said = await console("s3_endpoint_url").text(f"/ledger/{batch}")
    assert "The object store can't be asked" in said
    assert not_yet not in said


async def test_a_row_that_came_from_nowhere_is_named_too(console: Opened, works: Works) -> None:
    batch = await a_batch(works)
    await works.postgres.execute(
        "INSERT INTO raw.orders_raw (event_id, source_order_id, batch_id, source_system, raw_payload, event_time, "
        "stream_entry_id, stream_position) SELECT 'stray', 'stray', batch_id, 'nobody', '{}', now(), '1-0', 0 "
        "FROM raw.orders_raw LIMIT 1"
    )
    seen = await console().json(f"/api/ledger/{batch}?cell=archive")
    (told,) = seen["apart"]
    assert (told["there"], told["lacking"], told["events"][0]["event_id"]) == ("RAW", "the archive", "stray")
    assert seen["entries"][0]["entry"] == "1-0"
    (told,) = (await console().json(f"/api/ledger/{batch}?cell=staging"))["apart"]
    assert (told["there"], told["lacking"], told["events"][0]["event_id"]) == (
        "RAW",
        "the generation",
        "stray",
    )


async def test_only_what_does_not_balance_is_shown_when_asked(console: Opened, works: Works) -> None:
    await a_batch(works)
    seen = console()
    assert (await seen.json("/api/ledger?unbalanced=true"))["batches"] == []
    assert "No batch differs on any side" in await seen.text("/ledger?unbalanced=true")
    changes = {
        "raw": "DELETE FROM raw.orders_raw WHERE batch_id = $1 AND source_order_id LIKE '%03'",
        "stream": "UPDATE ops.entries SET accepted = accepted - 1, duplicate = duplicate + 1 WHERE batch_id = $1",
        "archive": "UPDATE ops.archive_objects SET records = 7 WHERE batch_id = $1 AND kind = 'raw'",
        "staging": "UPDATE ops.batches SET generation = 1, archived_at = NULL WHERE id = $1",
    }
    for number, (side, change) in enumerate(changes.items(), start=1):
        start = number * 100
        if side == "staging":
            batch = str((await works.land(*orders_placed(20, start=start)))["id"])
        else:
            batch = await a_batch(works, start=start)
        await works.postgres.execute(change, batch)
        page = await seen.json("/api/ledger?unbalanced=true")
        assert page["batches"][0]["id"] == batch
        assert len(page["batches"]) == number
        assert [name for name, cell in sides(page, batch).items() if cell["state"] == "differs"] == [side]


async def test_what_the_archive_lacks_is_part_of_the_answer(console: Opened, works: Works) -> None:
    batch = await a_batch(works)
    await works.postgres.execute(
        "UPDATE ops.archive_objects SET records = 19 WHERE batch_id = $1 AND kind = 'raw'", batch
    )
    page = await console().json("/api/ledger")
    assert page["verdict"]["state"] == "differs"
    assert [(one["batch"], one["says"]) for one in page["verdict"]["problems"] if one["batch"]] == [
        (batch, "Archive: 20 accepted, 19 in the archive")
    ]


async def test_the_batches_are_narrowed_by_the_address(console: Opened, works: Works) -> None:
    first, second = await a_batch(works), await a_batch(works, start=100)
    seen = console()

    async def ids(query: str) -> list[str]:
        return [row["id"] for row in (await seen.json(f"/api/ledger?{query}"))["batches"]]

    assert await ids("") == [second, first]
    assert await ids(f"id={first[:13].upper()}") == [first]
    assert await ids("dataset=orders") == [second, first]
    assert await ids("dataset=other") == []
    assert await ids("page=2") == []
    assert "No such batch" in await seen.text("/ledger?id=0000000000")


async def test_a_folder_of_the_archive_opens_by_its_address(console: Opened, works: Works) -> None:
    batch = await a_batch(works)
    seen = console()
    page = await seen.json("/api/ledger")
    assert page["opened"] == []
    (folder,) = [each for each in page["folders"] if each["root"] == "raw"]
    prefix = f"raw/orders/{folder['day']}/"
    opened = (await seen.json(f"/api/ledger?folder={prefix}"))["opened"]
    assert {each["key"] for each in opened} == {key for key in await works.keys() if key.startswith("raw/")}
    assert folder["objects"] == len(opened)
    assert f'data-copy="drp archive get {prefix}batch_id={batch}.jsonl.gz"' in await seen.page(
        f"/ledger?folder={prefix}"
    )
    assert (await seen.json("/api/ledger?folder=raw/orders/ingest_date=1999-01-01/"))["opened"] == []


async def test_a_batch_that_balances_is_compared_event_by_event_when_asked(
    console: Opened, works: Works
) -> None:
    batch = await a_batch(works)
    seen = console()
    assert (await seen.json(f"/api/ledger/{batch}"))["apart"] is None
    assert (await seen.json(f"/api/ledger/{batch}?compare=true"))["apart"] == []
    assert "both sides have the same ones" in await seen.text(f"/ledger/{batch}?compare=true")
    assert (await seen.json(f"/api/ledger/{batch}?compare=true&cell=staging"))["apart"] == []


async def test_with_redis_away_the_answer_is_unknown_and_the_batches_stand(
    console: Opened, works: Works
) -> None:
    batch = await a_batch(works)
    seen = console("redis_url")
    page = await seen.json("/api/ledger")
    assert page["verdict"]["state"] == "unknown"
    assert {cell["state"] for cell in sides(page, batch).values()} == {"equal"}
    said = await seen.text("/ledger")
    assert "Unknown" in said
    assert "Everything balances" not in said
    assert "Redis can't be asked" in said


async def test_an_old_count_says_nothing_of_now_when_redis_goes(
    console: Opened, works: Works, redis_server: RestartableRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "LEFT_ALONE_FOR", 0.0)
    await a_batch(works)
    seen = console(redis_url=redis_server.url)

    async def counted() -> bool:
        return (await seen.json("/api/ledger"))["counted"] is not None

    await until(counted)
    assert (await seen.json("/api/ledger"))["verdict"]["state"] != "unknown"
    redis_server.stop()
    page = await seen.json("/api/ledger")
    assert page["verdict"] == {"state": "unknown", "problems": []}
    assert page["sums"]["published"] is None
    assert page["sums"]["accepted"] == 20
    assert "When it was last counted" in await seen.text("/ledger")


async def test_a_count_that_is_old_is_not_shown_while_a_new_one_is_made(
    console: Opened, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STALE_AFTER", "LEAST_PAUSE", "_SHARE"):
        monkeypatch.setattr(counted, name, 0)
    await a_batch(works)
    seen = console()
    assert (await seen.json("/api/ledger"))["counted"]["reports"][0]["accepted"] == 20
    await a_batch(works, start=100)
    assert (await seen.json("/api/ledger"))["counted"]["reports"][0]["accepted"] == 40


async def test_with_postgres_away_nothing_is_claimed(console: Opened, works: Works) -> None:
    await a_batch(works)
    seen = console("postgres_url")
    said = await seen.text("/ledger")
    assert "Postgres can't be asked" in said
    assert "The batches are not known now" in said
    assert "Everything balances" not in said
    assert (await seen.json("/api/ledger"))["batches"] is None
    assert "Postgres can't be asked" in await seen.text("/ledger/last")


async def test_with_the_store_away_the_counts_stand_and_the_ids_are_missed(
    console: Opened, works: Works
) -> None:
    batch = await a_batch(works)
    await lose(works, "o-3")
    seen = console("s3_endpoint_url")
    assert sides(await seen.json("/api/ledger"), batch)["archive"]["state"] == "equal"
    said = await seen.text(f"/ledger/{batch}")
    assert "The object store can't be asked" in said
    assert "20 accepted, 19 rows in RAW" in said


async def test_a_count_that_takes_long_is_waited_for_once(
    console: Opened, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_batch(works)
    seen = console()
    monkeypatch.setattr(counted, "FIRST_WITHIN", 0.5)
    for name in ("STALE_AFTER", "LEAST_PAUSE", "_SHARE"):
        monkeypatch.setattr(counted, name, 0)
    async with works.postgres.transaction() as held:
        await held.execute("LOCK TABLE raw.orders_raw")  # what keeps the count
        assert (await seen.room.ledger.newest()).value is None
        monkeypatch.setattr(counted, "FIRST_WITHIN", 3600)
        assert (await asyncio.wait_for(seen.room.ledger.newest(), 60)).value is None
        assert seen.room.ledger.is_counting
    await until(lambda: not seen.room.ledger.is_counting)
    monkeypatch.setattr(counted, "FIRST_WITHIN", 0.5)
    assert (await seen.room.ledger.newest()).value is not None
    assert seen.room.ledger.is_counting  # the last took longer: the next is not waited for at all


async def test_without_the_warehouses_files_staging_is_unknown(console: Opened, works: Works) -> None:
    batch = await a_batch(works)
    works.root.rename(works.root.parent / "elsewhere")
    seen = console()
    page = await seen.json("/api/ledger")
    assert sides(page, batch)["staging"]["state"] == "unknown"
    assert [one["server"] for one in page["missing"]] == ["warehouse"]
    assert (await seen.json("/api/ledger?unbalanced=true"))["batches"] == []
    assert page["verdict"]["state"] == "unknown"
    assert "What readers see of orders was not compared" in page["verdict"]["problems"][0]["says"]
    for address, says in (
        ("/ledger", "What readers see of orders was not compared"),
        ("/ledger?unbalanced=true", "No batch differs on any side that could be asked."),
        (f"/ledger/{batch}", "What could be asked balances"),
    ):
        assert says in await seen.text(address)


async def test_a_count_of_the_archive_s_that_differs_says_nothing_of_an_event_that_raw_lacks(
    console: Opened, works: Works
) -> None:
    batch = await a_batch(works)
    await works.postgres.execute("UPDATE ops.archive_objects SET records = records + 1 WHERE kind = 'raw'")
    seen = console()
    assert "So a count is wrong, and no event is missing." in await seen.text(f"/ledger/{batch}")
    assert "no event is missing" not in await seen.text(f"/ledger/{batch}?cell=raw")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/ledger?page=0", 422),
        ("/ledger?id=%3Cscript%3E", 422),
        ("/ledger?unbalanced=perhaps", 422),
        ("/ledger?folder=../../etc/", 422),
        ("/ledger/ffffffff", 404),
        ("/ledger/last?cell=nothing", 422),
        ("/ledger/last?compare=perhaps", 422),
    ],
)
async def test_a_bad_address_is_refused_on_a_page_and_in_json(
    console: Opened, address: str, status: int
) -> None:
    seen = console()
    assert "<h1>" in await seen.page(address, status=status)
    answer = await seen.http.get(f"/api{address}")
    assert answer.status_code == status
    assert answer.json()["error"]
