"""Orders over HTTP: acknowledged when they are in the stream, all or nothing, and told what is wrong."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from libs.adapters.bus import Bus
from libs.datasets import load_datasets
from libs.testing.servers import RestartableRedis
from services.generator.handlers import create_app
from services.generator.publishing import OrderDoor
from tests.integration.generator.conftest import Room


def an_order(**overrides: Any) -> dict[str, Any]:
    return {
        "order_id": "A-1",
        "customer_id": "C-1",
        "amount": "19.90",
        "created_at": "2026-03-01T10:00:00Z",
        **overrides,
    }


async def test_one_order_is_in_the_stream_when_202_comes(room: Room) -> None:
    answer = await room.http.post("/v1/orders", json=an_order())
    assert answer.status_code == 202
    (event,) = await room.events()
    assert answer.json() == {"ids": [event["id"]], "count": 1}
    assert event["data"] == an_order()
    assert event["source"] == "urn:drp:http"
    assert event["dataschema"] == "urn:drp:orders:v1"
    assert uuid.UUID(event["id"]).version == 7


async def test_many_orders_keep_their_order(room: Room) -> None:
    orders = [an_order(order_id=f"A-{number}") for number in range(1_200)]
    answer = await room.http.post("/v1/orders", json=orders)
    assert answer.status_code == 202
    events = await room.events()
    assert [event["data"]["order_id"] for event in events] == [order["order_id"] for order in orders]
    assert answer.json()["ids"] == [event["id"] for event in events]
    assert await room.bus.length(room.dataset.stream) == 3


async def test_an_amount_keeps_its_digits_and_further_fields_are_kept(room: Room) -> None:
    body = b'{"order_id":"A","customer_id":"C","amount":12.10,"created_at":"2026-03-01","note":{"gift":true}}'
    assert (await room.http.post("/v1/orders", content=body)).status_code == 202
    async for entry in room.bus.unhandled(room.dataset.stream, "ingestor"):
        assert b'"amount":12.10,' in entry.data
        assert b'"note":{"gift":true}' in entry.data


async def test_the_producers_trace_goes_on_in_the_event(room: Room) -> None:
    parent = f"00-{'1' * 32}-{'2' * 16}-01"
    await room.http.post("/v1/orders", json=an_order(), headers={"traceparent": parent})
    (event,) = await room.events()
    assert event["traceparent"].startswith(f"00-{'1' * 32}-")
    assert event["traceparent"] != parent


async def test_a_key_makes_a_retry_the_same_events(room: Room) -> None:
    headers = {"Idempotency-Key": "order run 7"}
    orders = [an_order(), an_order(order_id="A-2")]
    first = await room.http.post("/v1/orders", json=orders, headers=headers)
    again = await room.http.post("/v1/orders", json=orders, headers=headers)
    assert first.json() == again.json()
    assert len({event["id"] for event in await room.events()}) == 2


async def test_a_key_with_other_orders_is_refused(room: Room) -> None:
    headers = {"Idempotency-Key": "order run 8"}
    await room.http.post("/v1/orders", json=an_order(), headers=headers)
    answer = await room.http.post("/v1/orders", json=an_order(amount="1.00"), headers=headers)
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["error"]
    same = dict(reversed(an_order().items()))
    assert (await room.http.post("/v1/orders", json=same, headers=headers)).status_code == 202


async def test_a_key_goes_with_any_order_that_the_contract_takes(room: Room) -> None:
    body = b'{"order_id":"A","customer_id":"C","amount":"1","created_at":"2026-03-01","x":1e300,"y":[1e-400]}'
    for _ in range(2):
        answer = await room.http.post("/v1/orders", content=body, headers={"Idempotency-Key": "wild"})
        assert answer.status_code in (202, 422)


async def test_what_the_contract_refuses_is_told_by_place_and_field_and_nothing_is_published(
    room: Room,
) -> None:
    wrong = [an_order(), an_order(amount="12,50"), {"order_id": "A-3"}, an_order(amount="1.005")]
    answer = await room.http.post("/v1/orders", json=wrong)
    assert answer.status_code == 422
    assert answer.json()["error"] == "the contract refuses 3 of 4 orders"
    told = [(one["index"], one["field"], one["reason"]) for one in answer.json()["problems"]]
    assert told == [
        (1, "amount", "wrong_type"),
        (2, "customer_id", "field_missing"),
        (3, "amount", "not_exact"),
    ]
    assert await room.events() == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"order_id=1", 400, "not JSON"),
        (b'{"amount": NaN}', 400, "not JSON"),
        (b'{"a": "\xff"}', 422, "refuses"),
        (b"[" * 100_000, 400, "nested too deep"),
        (b"[]", 422, "no order"),
        (b'"text"', 422, "refuses"),
        (b"[[1]]", 422, "refuses"),
        (b'{"amount": 1e400}', 422, "refuses"),
        (b'{"order_id": "a\\u0000"}', 422, "refuses"),
        (b"[" + b",".join([b"{}"] * 10_001) + b"]", 422, "at most 10000"),
        (b" " * (8 * 1024 * 1024 + 1), 413, "at most"),
    ],
)
async def test_a_body_that_holds_no_orders_is_refused_clearly(
    room: Room, body: bytes, status: int, says: str
) -> None:
    answer = await room.http.post("/v1/orders", content=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert await room.bus.length(room.dataset.stream) == 0


async def test_a_body_that_grows_beyond_the_limit_is_cut_off(room: Room) -> None:
    async def endless() -> Any:
        for _ in range(9):
            yield b" " * 1024 * 1024

    assert (await room.http.post("/v1/orders", content=endless())).status_code == 413


@pytest.mark.parametrize("limit", [1])
async def test_a_full_stream_asks_to_come_back(room: Room) -> None:
    assert (await room.http.post("/v1/orders", json=an_order())).status_code == 202
    answer = await room.http.post("/v1/orders", json=an_order())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert "no room" in answer.json()["error"]
    assert len(await room.events()) == 1


async def test_without_the_dataset_orders_are_not_taken() -> None:
    app = create_app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://drp") as http:
        answer = await http.post("/v1/orders", json=an_order())
    assert answer.status_code == 404
    assert "no dataset named `orders`" in answer.json()["error"]


async def test_without_redis_orders_are_not_acknowledged(redis_server: RestartableRedis) -> None:
    bus = await Bus.connect(redis_server.url, service="generator", consumer="generator-1")
    app = create_app()
    app.state.bus = bus
    app.state.door = OrderDoor(bus, load_datasets()["orders"], limit=100)
    redis_server.kill()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://drp") as http:
        answer = await http.post("/v1/orders", json=an_order())
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert (await http.get("/health")).status_code == 503
        redis_server.start()
        assert (await http.post("/v1/orders", json=an_order())).status_code == 202
        assert (await http.get("/health")).json() == {"status": "ok", "detail": None}
    await bus.stop()


async def test_synthetic_orders_are_looked_at_not_published(room: Room) -> None:
    answer = await room.http.get("/v1/orders")
    assert answer.json()["count"] == len(answer.json()["records"]) == 100
    seeded = [(await room.http.get("/v1/orders?limit=3&seed=5")).json() for _ in range(2)]
    assert seeded[0] == seeded[1]
    assert set(seeded[0]["records"][0]) == {"order_id", "customer_id", "amount", "created_at"}
    assert await room.events() == []
    published = await room.http.post("/v1/orders", json=seeded[0]["records"])
    assert published.status_code == 202


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "seed=-1", "seed=NaN"])
async def test_a_question_out_of_range_is_refused(room: Room, query: str) -> None:
    answer = await room.http.get(f"/v1/orders?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["error"]


async def test_the_description_is_complete_and_loads_nothing_from_elsewhere(room: Room) -> None:
    document = (await room.http.get("/openapi.json")).json()
    post = document["paths"]["/v1/orders"]["post"]
    assert set(post["responses"]) == {"202", "400", "404", "413", "422", "503"}
    assert "examples" in post["requestBody"]["content"]["application/json"]
    assert {one["name"] for one in post["parameters"]} == {"Idempotency-Key", "traceparent"}
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert all(answer["description"] for answer in operation["responses"].values())
    assert "Order" in document["components"]["schemas"]
    assert (await room.http.get("/docs")).status_code == 404
    assert (await room.http.get("/")).json()["openapi"] == "/openapi.json"
