"""Each page empty, busy, and with each server away."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

import pytest

from libs.datasets import load_datasets
from libs.operations.ledger import verify_ledger
from libs.testing.servers import RestartableRedis
from libs.testing.waiting import until
from services.console import doors
from services.console.handlers.answers import POLICY
from tests.integration.archiver.works import Works, an_event, orders_placed
from tests.integration.console.conftest import Console
from tests.integration.ingestor.room import open_room
from tests.integration.operations.archived.test_other_dataset import DATASETS

Opened = Callable[..., Console]
PAGES = (
    "/",
    "/batches",
    "/batches/last",
    "/quality",
    "/events",
    "/events?q=last",
    "/quarantine",
    "/quarantine/1",
    "/ledger",
    "/ledger/last",
    "/data",
    "/data?sql=SELECT+1",
)


async def a_busy_batch(works: Works) -> str:
    """Published, with an order that the contract refuses; its id."""
    await works.objects.ensure_bucket()
    batch = await works.land(*orders_placed(20), an_event("bad", amount="x"))
    await works.publish()
    await works.archive()
    return str(batch["id"])


async def a_blocked_batch(works: Works) -> str:
    """Judged as the validator would: every row of it breaks a rule; its id."""
    batch = await works.land(*[an_event(f"n-{number}", amount="-1.00") for number in range(10)])
    await works.transformer.main.tend()
    generation = await works.transformer.judge("fail")
    await works.postgres.execute(
        "INSERT INTO ops.quality_results (generation, rule, kind, status, expectation, tolerance, evaluated, "
        "unexpected) VALUES ($1, 'amount_not_negative', 'row', 'fail', 'expect_column_values_to_be_between', 0.02, "
        "10, 10)",
        generation,
    )
    await works.postgres.execute(
        "INSERT INTO ops.quality_failures (generation, rule, source_system, event_id, business_key, observed) "
        "SELECT $1, 'amount_not_negative', 'test', 'e-' || n, 'n-' || n, '-1.00' FROM generate_series(0, 9) n",
        generation,
    )
    return str(batch["id"])


async def test_an_empty_platform_is_told_how_to_begin(console: Opened) -> None:
    seen = console()
    for page in ("/", "/batches"):
        assert "drp publish --file tests/data/cdnow_orders.csv.gz" in await seen.page(page)
    assert "names no batch" not in await seen.text("/batches")


async def test_the_front_page_says_the_ledger_and_what_readers_see(console: Opened, works: Works) -> None:
    await a_busy_batch(works)
    said = await console().text("/")
    assert "quarantined 1" in said
    assert "accepted 20" in said
    assert "up to date" in said
    assert "daily_order_metrics" in said
    assert "events that were not taken" in said


async def test_the_front_page_says_what_drp_ledger_verify_says(console: Opened, works: Works) -> None:
    await a_busy_batch(works)
    seen = console()
    counted = (await seen.json("/api/flow"))["counted"]["reports"]
    reports = await verify_ledger(works.postgres, await seen.room.doors.bus(), seen.room.doors.datasets)
    assert [one["accepted"] for one in counted] == [report.accepted for report in reports]
    assert [one["unaccounted"] for one in counted] == [report.unaccounted for report in reports]


async def test_the_list_says_of_each_batch_state_and_verdict_apart(console: Opened, works: Works) -> None:
    published = await a_busy_batch(works)
    blocked = await a_blocked_batch(works)
    rows = {row["id"]: row for row in (await console().json("/api/batches"))["batches"]}
    assert (rows[published]["status"], rows[published]["verdict"]) == ("published", "pass")
    assert (rows[blocked]["status"], rows[blocked]["verdict"]) == ("blocked", "fail")
    assert rows[published]["rows_in"] == 21
    assert rows[published]["refused"] == 1
    assert rows[published]["seconds"] > 0
    assert rows[blocked]["seconds"] is None


async def test_the_list_is_narrowed_and_sorted_by_its_address(console: Opened, works: Works) -> None:
    published = await a_busy_batch(works)
    blocked = await a_blocked_batch(works)
    seen = console()

    async def ids(query: str) -> list[str]:
        return [row["id"] for row in (await seen.json(f"/api/batches?{query}"))["batches"]]

    assert await ids("status=blocked") == [blocked]
    assert await ids(f"id={published[:13].upper()}") == [published]
    assert await ids("sort=rows&order=asc") == [blocked, published]
    assert await ids("sort=rows") == [published, blocked]
    assert await ids("sort=seconds") == [published, blocked]
    assert await ids("dataset=other") == []
    assert "No such batch" in await seen.text("/batches?status=held")


async def test_a_batch_says_why_it_is_where_it_is(console: Opened, works: Works) -> None:
    blocked = await a_blocked_batch(works)
    said = await console().text(f"/batches/{blocked[:8]}")
    assert "The quality gate blocks generation" in said
    assert "amount_not_negative" in said
    assert f"drp batches hold {blocked}" in said


async def test_failing_rows_are_hidden_until_somebody_asks(console: Opened, works: Works) -> None:
    blocked = await a_blocked_batch(works)
    seen = console()
    hidden, shown = await seen.page(f"/batches/{blocked}"), await seen.page(f"/batches/{blocked}?reveal=true")
    assert "n-3" in shown
    assert "n-3" not in hidden
    assert "•••••" in hidden
    assert {row["key"] for row in (await seen.json(f"/api/batches/{blocked}"))["failing"]} == {"•••••"}


async def test_the_archive_of_a_batch_is_verified_when_asked(console: Opened, works: Works) -> None:
    batch = await a_busy_batch(works)
    seen = console()
    assert {one["verified"] for one in (await seen.json(f"/api/batches/{batch}"))["objects"]} == {None}
    assert {one["verified"] for one in (await seen.json(f"/api/batches/{batch}?verify=true"))["objects"]} == {
        ""
    }
    key = next(k for k in await works.keys() if f"{batch}.jsonl" in k)
    await works.overwrite(key, b"other")
    await works.remove(next(k for k in await works.keys() if "manifest" in k and batch in k))
    said = await seen.text(f"/batches/{batch}?verify=true")
    assert "its content is not what was put" in said
    assert "it is missing" in said


async def test_where_the_archive_is_off_no_page_says_that_it_waits_for_it(
    console: Opened, works: Works
) -> None:
    batch = (await works.land(*orders_placed(3)))["id"]
    await works.publish()
    seen = console(archive="off")
    assert "archive off" in await seen.text(f"/batches/{batch}")
    for page in ("/batches", f"/batches/{batch}", "/ledger", f"/ledger/{batch}", "/events?q=o-1"):
        body = (await seen.text(page)).partition("Generations rows")[0]
        assert not re.search("waits for the archiver|archived not yet|archive waiting|[0-9] waiting", body), (
            page
        )


async def test_a_build_that_was_given_up_ended_when_it_was(console: Opened, works: Works) -> None:
    batch = (await works.land(*orders_placed(3)))["id"]
    await works.transformer.main.tend()
    await works.postgres.execute(
        "UPDATE ops.generations SET state = 'abandoned', built_at = NULL, started_at = now() - interval '3 days', "
        "lease_until = now() - interval '3 days' + interval '15 s'"
    )
    page = await console().json(f"/api/batches/{batch}")
    (bar,) = next(lane["bars"] for lane in page["lanes"] if lane["step"] == "transform")
    began, ended = (datetime.fromisoformat(bar[name]) for name in ("started_at", "ended_at"))
    assert (bar["status"], (ended - began).total_seconds()) == ("abandoned", 15)


@pytest.mark.parametrize("away", ["redis_url", "postgres_url", "s3_endpoint_url", "traces_url"])
async def test_whatever_is_away_every_page_comes_and_says_so(
    console: Opened, works: Works, away: str
) -> None:
    await a_busy_batch(works)
    seen = console(away)
    said = {page: await seen.text(page) for page in PAGES}
    told = {
        "redis_url": ("/", "Redis can't be asked"),
        "postgres_url": ("/batches", "Postgres can't be asked"),
        "s3_endpoint_url": ("/batches/last?verify=true", "The object store can't be asked"),
        "traces_url": ("/batches/last", "The trace store can't be asked"),
    }
    page, sentence = told[away]
    assert sentence in (said.get(page) or await seen.text(page))


async def test_a_dataset_that_the_console_does_not_know_is_not_balanced_away(
    console: Opened, works: Works
) -> None:
    await a_busy_batch(works)
    seen = console()
    seen.room.doors.datasets = load_datasets(DATASETS)
    await open_room(works.postgres, seen.room.doors.datasets["payments"])
    for page in ("/", "/ledger"):
        said = await seen.text(page)
        assert "dataset orders is not among the console" in said
        assert "accepted 20" in said
        assert "0 unaccounted" not in said
        assert "Everything balances" not in said


async def test_one_slow_question_does_not_make_postgres_away_for_the_other_pages(
    console: Opened, works: Works
) -> None:
    batch = await a_busy_batch(works)
    seen = console()
    async with works.postgres.transaction() as connection:
        await connection.execute("LOCK TABLE raw.quarantine IN ACCESS EXCLUSIVE MODE")
        assert "not within 3 s" in await seen.text(f"/batches/{batch}")
        assert "can't be asked" not in await seen.text("/batches")
    assert "can't be asked" not in await seen.text(f"/batches/{batch}")


async def test_with_redis_away_what_is_unaccounted_is_unknown_and_never_nought(
    console: Opened, works: Works
) -> None:
    await a_busy_batch(works)
    said = await console("redis_url").text("/")
    assert said.count("unknown") >= 3
    assert "accepted 20" in said


async def test_with_everything_away_the_pages_come(console: Opened) -> None:
    seen = console("redis_url", "postgres_url", "s3_endpoint_url", "traces_url")
    for page in PAGES:
        assert "can't be asked" in await seen.text(page)
    assert (await seen.json("/api/flow"))["ledger"] is None


async def test_a_server_that_goes_and_comes_is_missed_and_found_again(
    console: Opened, redis_server: RestartableRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "LEFT_ALONE_FOR", 0.0)
    seen = console(redis_url=redis_server.url)
    assert "Redis can't be asked" not in await seen.text("/")
    redis_server.stop()
    assert "Redis can't be asked" in await seen.text("/")
    redis_server.start()

    async def found() -> bool:
        return "Redis can't be asked" not in await seen.text("/")

    await until(found)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nothing", 404),
        ("/batches/ffffffff", 404),
        ("/batches?sort=size", 422),
        ("/batches?id=%3Cscript%3E", 422),
        ("/batches?page=0", 422),
        ("/batches?dataset=%00", 422),
        ("/batches?status=%00", 422),
        ("/batches/%00", 422),
        ("/ledger/%00", 422),
        ("/static/0/console.css", 404),
        ("/static/0/..%2fapp.py", 404),
    ],
)
async def test_what_is_not_there_is_said_on_a_page_and_in_json(
    console: Opened, address: str, status: int
) -> None:
    seen = console()
    said = await seen.page(address, status=status)
    assert "<h1>" in said
    assert "<script>" not in said
    if not address.startswith("/static"):
        answer = await seen.http.get(f"/api{address}")
        assert answer.status_code == status
        assert answer.json()["error"]


async def test_every_answer_carries_the_policy_and_the_page_is_not_kept(console: Opened) -> None:
    seen = console()
    for address in ("/", "/batches", "/api/flow", "/nothing", "/favicon.ico"):
        headers = (await seen.http.get(address)).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["cache-control"] == "no-store"


async def test_one_address_gives_the_page_and_its_part(console: Opened, works: Works) -> None:
    await a_busy_batch(works)
    seen = console()
    for address in PAGES:
        whole = await seen.http.get(address)
        part = await seen.http.get(address, headers={"HX-Request": "true"})
        assert whole.headers["vary"].lower().count("hx-request") == 1
        assert whole.text.startswith("<!doctype html>")
        assert "<header" not in part.text
        assert part.text.lstrip().startswith("<title>")
        assert part.text.count("<main") == 1


async def test_static_files_are_kept_for_good_under_the_name_of_their_content(console: Opened) -> None:
    seen = console()
    body = await seen.page("/")
    address = body.partition('rel="stylesheet" href="')[2].partition('"')[0]
    answer = await seen.http.get(address)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/css")
