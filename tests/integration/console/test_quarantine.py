"""What was not taken: by cause, one by one, and hidden until somebody asks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from libs.adapters.bus import Bus
from libs.operations.actions import acting
from libs.operations.quarantine import Selection, discard
from tests.integration.archiver.works import Works, an_event, orders_placed
from tests.integration.console.conftest import Console
from tests.integration.operations.quarantining import fixed, landed, redriven

Opened = Callable[..., Console]


async def refused(works: Works) -> list[int]:
    """Two with a wrong amount, one without a customer, one that is no JSON, one in conflict; their numbers in that
    order."""
    nobody = an_event("nobody")
    del nobody["data"]["customer_id"]
    await works.land(*orders_placed(3), an_event("kept", event_id="twice", amount="1.00"))
    bad = [an_event("a", event_id="e-a", amount="14,42"), an_event("b", amount="secret-2"), nobody]
    await works.land(*bad, an_event("kept", event_id="twice", amount="2.00"))
    await works.land(b'{"specversion": NaN}')
    rows = {row["reason"]: row["id"] for row in await works.ingestor.quarantine()}
    amounts = sorted(row["id"] for row in await works.ingestor.quarantine() if row["reason"] == "wrong_type")
    return [*amounts, rows["field_missing"], rows["undecodable"], rows["conflict"]]


async def put_away(works: Works, *numbers: int) -> None:
    async with acting(works.postgres) as connection:
        await discard(connection, Selection(ids=numbers), because="a test of ours", actor="ann")


async def test_with_nothing_refused_the_page_says_what_would_stand_there(console: Opened) -> None:
    said = await console().text("/quarantine")
    assert "Every event so far was taken" in said
    assert "drp publish --file tests/data/cdnow_orders.csv.gz" in said


async def test_what_is_open_stands_by_its_cause(console: Opened, works: Works) -> None:
    await refused(works)
    found = (await console().json("/api/quarantine"))["found"]
    assert found["open"] == 5
    first = found["groups"][0]
    assert (first["reason"], first["stage"], first["field"]) == ("wrong_type", "contract", "amount")
    assert (first["open"], first["discarded"]) == (2, 0)
    assert {one["reason"] for one in found["groups"]} == {
        "wrong_type",
        "field_missing",
        "undecodable",
        "conflict",
    }
    assert [sum(one["over"]) for one in found["groups"]] == [2, 1, 1, 1]
    assert found["open_since"] == min(one["first_at"] for one in found["groups"])


async def test_what_is_settled_is_counted_beside_what_is_open(console: Opened, works: Works) -> None:
    first, *_ = await refused(works)
    await put_away(works, first)
    seen = console()
    found = (await seen.json("/api/quarantine?reason=wrong_type"))["found"]
    assert (found["open"], found["discarded"], found["redriven"]) == (1, 1, 0)
    assert [(one["open"], one["discarded"], sum(one["over"])) for one in found["groups"]] == [(1, 1, 1)]
    assert [one["id"] for one in (await seen.json("/api/quarantine?state=discarded"))["events"]] == [first]
    said = await seen.text("/quarantine?state=discarded")
    assert "4 open" in said
    assert "1 discarded" in said
    assert "when the discarded ones came" in said


async def test_the_list_is_narrowed_by_its_address(console: Opened, works: Works) -> None:
    first, second, missing, broken, conflict = await refused(works)
    seen = console()

    async def numbers(query: str) -> list[int]:
        return [row["id"] for row in (await seen.json(f"/api/quarantine?{query}"))["events"]]

    assert await numbers("reason=wrong_type") == [second, first]
    assert await numbers("field=customer_id") == [missing]
    assert await numbers("field=-") == sorted([broken, conflict], reverse=True)
    assert len(await numbers("dataschema=-")) == 5
    assert await numbers("dataschema=urn:drp:orders:v1") == []
    assert await numbers("batch=last") == [broken]
    assert await numbers(f"before={second}") == sorted(
        [number for number in (first, missing, broken, conflict) if number < second], reverse=True
    )
    assert await numbers("dataset=other") == []
    assert await numbers("state=redriven") == []
    assert "No such event" in await seen.text("/quarantine?dataset=other")
    assert "A field holds another type than the contract says." in await seen.text(
        "/quarantine?reason=wrong_type"
    )


async def test_groups_are_sorted_by_their_size_or_by_when_they_were_seen(
    console: Opened, works: Works
) -> None:
    await refused(works)
    seen = console()

    async def reasons(query: str) -> list[str]:
        return [one["reason"] for one in (await seen.json(f"/api/quarantine?{query}"))["found"]["groups"]]

    assert (await reasons("sort=count"))[0] == "wrong_type"
    assert (await reasons("sort=count&order=asc"))[-1] == "wrong_type"
    assert (await reasons("sort=last"))[0] == "undecodable"
    assert (await reasons("sort=last&order=asc"))[-1] == "undecodable"


async def test_a_cause_leads_to_its_events_and_a_long_list_to_its_next_page(
    console: Opened, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.looks.quarantine.AT_ONCE", 1)
    first, second, *_ = await refused(works)
    seen = console()
    body = await seen.page("/quarantine")
    address = "/quarantine?dataset=orders&amp;reason=wrong_type&amp;field=amount&amp;dataschema=-"
    assert f'href="{address}"' in body
    narrow = await seen.page(address.replace("&amp;", "&"))
    assert f'href="/quarantine/{second}"' in narrow
    assert f'href="{address}&amp;before={second}"' in narrow
    assert "reason=undecodable&amp;field=-&amp;" in body
    older = await seen.page(f"{address.replace('&amp;', '&')}&before={second}")
    assert f'href="/quarantine/{first}"' in older
    assert f'href="/quarantine/{second}"' not in older
    assert "Newest" in older
    assert "Older" not in older


async def test_an_event_says_what_is_wrong_and_what_the_contract_wants(console: Opened, works: Works) -> None:
    first, _, missing, *_ = await refused(works)
    seen = console()
    said = await seen.text(f"/quarantine/{first}")
    assert "Its amount was refused: the text is no decimal." in said
    assert "Published again as it is, it would be refused" in said
    assert "a decimal, as number or text: up to 10 digits, 2 after the point" in said
    assert "What the order is worth" in said
    assert "the gate wants ≥ 0.00 (amount_not_negative)" in said
    assert f"drp quarantine fix {first} --set amount=…" in said
    assert 'href="/events?q=e-a"' in await seen.page(f"/quarantine/{first}")
    fields = (await seen.json(f"/api/quarantine/{missing}"))["fields"]
    assert (fields[0]["field"], fields[0]["problem"], fields[0]["here"]) == (
        "customer_id",
        "is missing",
        True,
    )


async def test_what_stands_in_an_event_is_hidden_until_somebody_asks(console: Opened, works: Works) -> None:
    first, _, _, broken, conflict = await refused(works)
    await fixed(works, first, texts={"amount": "14.42"})
    seen = console()
    for number, secrets in (
        (first, ("14,42", "14.42")),
        (broken, ("specversion",)),
        (conflict, ("1.00", "2.00")),
    ):
        for address in (f"/quarantine/{number}", f"/api/quarantine/{number}"):
            hidden = (await seen.http.get(address)).text
            shown = (await seen.http.get(f"{address}?reveal=true")).text
            assert [secret for secret in secrets if secret in hidden] == []
            assert [secret for secret in secrets if secret not in shown] == []
    assert "secret-2" not in await seen.page("/quarantine")


async def test_a_fix_stands_beside_the_original_with_what_it_changes(console: Opened, works: Works) -> None:
    first, *_ = await refused(works)
    await fixed(works, first, texts={"amount": "14.42"})
    seen = console()
    said = await seen.text(f"/quarantine/{first}?reveal=true")
    assert "published now it would be accepted" in said
    assert "amount corrected" in said
    assert 'amount "14,42" "14.42"' in said.replace("&#34;", '"')
    assert f"drp quarantine redrive {first}" in said
    assert "ann fix corrected" in said
    assert "fixed" in (await seen.page("/quarantine"))


async def test_an_event_in_conflict_is_compared_with_what_raw_holds(console: Opened, works: Works) -> None:
    *_, conflict = await refused(works)
    seen = console()
    said = await seen.text(f"/quarantine/{conflict}")
    assert "it would be in conflict" in said
    assert "amount RAW holds another" in said
    told = (await seen.json(f"/api/quarantine/{conflict}?reveal=true"))["event"]["against_raw"]
    assert told == [{"field": "amount", "before": '"1.00"', "after": '"2.00"'}]
    assert f"drp quarantine fix {conflict} --new-id --redrive" in said


async def test_what_was_done_about_an_event_is_told(console: Opened, works: Works, redis_url: str) -> None:
    first, second, *_ = await refused(works)
    await put_away(works, second)
    seen = console()
    said = await seen.text(f"/quarantine/{second}")
    assert "ann discard a test of ours" in said
    assert f"drp quarantine reopen {second}" in said
    await fixed(works, first, texts={"amount": "1"})
    bus = await Bus.connect(redis_url, service="test", consumer="test-2")
    try:
        await redriven(works, bus, first)
    finally:
        await bus.stop()
    assert "It was published again" in await seen.text(f"/quarantine/{first}")
    assert "which has not landed yet" in await seen.text(f"/quarantine/{first}")
    assert 'data-topics="quarantine batches"' in await seen.page(f"/quarantine/{first}")
    await landed(works, redis_url)
    assert re.search(r"which landed in batch [0-9a-f]{8}", await seen.text(f"/quarantine/{first}"))
    assert 'data-topics="quarantine"' in await seen.page(f"/quarantine/{first}")


async def test_other_pages_lead_here(console: Opened, works: Works) -> None:
    *_, broken, _ = await refused(works)
    seen = console()
    assert 'href="/quarantine">events that were not taken' in await seen.page("/")
    assert f'href="/quarantine/{broken}"' in await seen.page("/batches/last")


async def test_what_a_producer_wrote_is_shown_and_never_run(console: Opened, works: Works) -> None:
    event = an_event("x", event_id="<script>1</script>&q=2", amount="<script>2</script>")
    await works.land({**event, "dataschema": "<script>3</script>", "source": "<script>4</script>"})
    (row,) = await works.ingestor.quarantine()
    seen = console()
    for address in ("/quarantine", f"/quarantine/{row['id']}?reveal=true"):
        body = (await seen.page(address)).partition("<main")[2]
        assert "<script>" not in body
        assert "/events?q=%3Cscript%3E1%3C/script%3E%26q%3D2" in body


async def test_with_postgres_away_the_pages_come_and_say_so(console: Opened, works: Works) -> None:
    first, *_ = await refused(works)
    seen = console("postgres_url")
    for address in ("/quarantine", "/quarantine?batch=last", f"/quarantine/{first}"):
        assert "Postgres can't be asked" in await seen.text(address)
        answer = await seen.http.get(f"/api{address}")
        assert answer.status_code == 200
        assert answer.json()["missing"][0]["server"] == "postgres"


async def test_what_is_too_much_to_be_grouped_is_listed_all_the_same(
    console: Opened, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = await refused(works)

    async def endless(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("services.console.looks.quarantine.GROUPED_WITHIN", 0.5)
    seen = console()
    await seen.page("/quarantine")
    monkeypatch.setattr("services.console.looks.quarantine.grouped", endless)
    body = await seen.page("/quarantine")
    assert "too many to count them by cause" in body
    assert f'href="/quarantine/{first}"' in body
    assert "can't be asked" not in body
    assert "can't be asked" not in await seen.page("/batches")


async def test_an_event_whose_dataset_is_gone_is_still_shown(console: Opened, works: Works) -> None:
    first, *_ = await refused(works)
    await works.postgres.execute("UPDATE raw.quarantine SET dataset = 'gone' WHERE id = $1", first)
    said = await console().text(f"/quarantine/{first}?reveal=true")
    assert "The console knows no dataset gone" in said
    assert "14,42" in said


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/quarantine/999", 404),
        ("/quarantine?batch=ffffffff", 404),
        ("/quarantine/0", 422),
        ("/quarantine/one", 422),
        ("/quarantine/99999999999999999999", 422),
        ("/quarantine?state=closed", 422),
        ("/quarantine?sort=reason", 422),
        ("/quarantine?reason=%00", 422),
        ("/quarantine?batch=%27", 422),
        ("/quarantine?before=0", 422),
    ],
)
async def test_what_is_not_there_or_not_understood_is_said(
    console: Opened, address: str, status: int
) -> None:
    seen = console()
    assert "<h1>" in await seen.page(address, status=status)
    answer = await seen.http.get(f"/api{address}")
    assert answer.status_code == status
    assert answer.json()["error"]
