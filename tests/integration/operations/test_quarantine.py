"""A quarantined event is looked at, corrected, put away and taken up again; its original stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from libs.adapters.bus import Bus
from libs.errors import Permanent
from libs.operations.actions import actions_on
from libs.operations.examination import examined
from libs.operations.quarantine import Selection, discard, quarantine_subject, reopen
from tests.integration.archiver.works import Works, an_event
from tests.integration.operations.quarantining import fixed, landed, published, redriven, row_of


async def test_a_plan_writes_nothing(works: Works, bus: Bus, redis_url: str) -> None:
    (refused,) = await published(works, bus, redis_url, an_event(amount="ten"))
    before = await row_of(works, refused["id"])
    await fixed(works, refused["id"], dry_run=True, texts={"amount": "10.00"})
    await redriven(works, bus, dry_run=True)
    assert await row_of(works, refused["id"]) == before
    assert await actions_on(works.postgres, quarantine_subject(refused["id"])) == []


async def test_every_action_is_kept_with_who_and_why_and_without_what(
    works: Works, bus: Bus, redis_url: str
) -> None:
    (refused,) = await published(works, bus, redis_url, an_event(amount="secret"))
    number = refused["id"]
    await fixed(works, number, texts={"amount": "10.01"})
    async with works.postgres.transaction() as connection:
        assert await discard(connection, Selection(ids=[number]), because="a mistake", actor="bob") == [
            number
        ]
        assert await discard(connection, Selection(ids=[number]), because="again", actor="bob") == []
        assert await reopen(connection, [number], because="no mistake", actor="bob") == [number]
        assert await reopen(connection, [number], because="again", actor="bob") == []
    await redriven(works, bus, number)

    actions = await actions_on(works.postgres, quarantine_subject(number))

    assert [(each["actor"], each["action"], each["reason"]) for each in actions] == [
        ("ann", "quarantine.fix", "corrected"),
        ("bob", "quarantine.discard", "a mistake"),
        ("bob", "quarantine.reopen", "no mistake"),
        ("ann", "quarantine.redrive", "a test"),
    ]
    assert actions[0]["detail"]["fields"] == ["amount"]
    assert actions[3]["detail"]["entry"] == (await row_of(works, number))["redriven_entry"]
    assert "10.01" not in json.dumps([each["detail"] for each in actions])


async def test_what_is_discarded_is_kept_and_left_alone_until_it_is_taken_up_again(
    works: Works, bus: Bus, redis_url: str
) -> None:
    (refused,) = await published(works, bus, redis_url, an_event(amount="ten"))
    number = refused["id"]
    async with works.postgres.transaction() as connection:
        await discard(connection, Selection(reason="wrong_type"), because="a test", actor="ann")

    assert (await redriven(works, bus)).events == []
    (named,) = (await redriven(works, bus, number)).events
    assert named.outcome == "discarded"
    with pytest.raises(Permanent, match=f"event {number} is discarded.*drp quarantine reopen {number}"):
        await fixed(works, number, texts={"amount": "1.00"})
    assert (await row_of(works, number))["original"] == refused["original"]

    async with works.postgres.transaction() as connection:
        await reopen(connection, [number], because="a test", actor="ann")
    after = await row_of(works, number)
    assert (after["state"], after["settled_at"]) == ("open", None)


async def test_without_a_reason_nothing_is_discarded(works: Works, bus: Bus, redis_url: str) -> None:
    (refused,) = await published(works, bus, redis_url, an_event(amount="ten"))
    with pytest.raises(Permanent, match="needs a reason"):
        async with works.postgres.transaction() as connection:
            await discard(connection, Selection(), because=" ", actor="ann")
    assert (await row_of(works, refused["id"]))["state"] == "open"


async def test_an_event_is_shown_with_all_that_helps(works: Works, bus: Bus, redis_url: str) -> None:
    (refused,) = await published(works, bus, redis_url, an_event(amount="ten", customer_id=None))
    number = refused["id"]

    async def seen() -> dict[str, Any]:
        return await examined(works.postgres, {"orders": works.dataset}, number)

    first = await seen()
    assert first["meaning"] == "a required field of the contract is absent or null"
    assert {field.field: field.problem for field in first["fields"]} == {
        "order_id": None,
        "customer_id": "is null",
        "amount": "the text is no decimal",
        "created_at": None,
    }
    assert first["next"][0] == f"drp quarantine fix {number} --set customer_id=… --set amount=…"
    await fixed(works, number, texts={"amount": "1.00"})
    partly = await seen()
    assert (partly["outcome"], partly["differences"][0].field) == ("refused", "amount")
    await fixed(works, number, texts={"customer_id": "c"})
    assert (await seen())["next"][0] == f"drp quarantine redrive {number}"
    afresh = await fixed(works, number, afresh=True, texts={"customer_id": "c"})
    assert [each.field for each in afresh.differences] == ["customer_id"]
    await fixed(works, number, texts={"amount": "1.00"})

    await redriven(works, bus)
    assert (await seen())["became"] is None
    assert (await seen())["next"] == ["drp batches wait --all"]
    await landed(works, redis_url)
    became = (await seen())["became"]
    assert (became["accepted"], (await seen())["next"]) == (1, [f"drp batches show {became['batch_id']}"])


@pytest.mark.parametrize(
    ("document", "command"),
    [
        (b'{"order_id":"A-1","customer_id":"c","amount":1,"created_at":"2026-01-01"}', "fix {} --wrap"),
        (b"{", "show {} --original > event.json"),
        (b'{"specversion":"1.0","source":"s","type":"t","data":{}}', "fix {} --set order_id=…"),
        (b'{"specversion":"2.0","id":"1","source":"s","type":"t","data":{"order_id":"1","customer_id":"1",'
         b'"amount":1,"created_at":"2026-01-01"}}', "fix {} --set ce-specversion=…"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"t","drpunreadable":"line 1","data":{"line":1}}',
         "fix {} --set order_id=… --set customer_id=… --set amount=… --set created_at=…"),
    ],
)  # fmt: skip
async def test_what_to_do_depends_on_what_is_wrong(
    works: Works, bus: Bus, redis_url: str, document: bytes, command: str
) -> None:
    (refused,) = await published(works, bus, redis_url, document)
    seen = await examined(works.postgres, {"orders": works.dataset}, refused["id"])
    assert seen["next"][0].startswith(f"drp quarantine {command.format(refused['id'])}")
    assert seen["next"][-1] == f"drp quarantine discard {refused['id']} --because …"
