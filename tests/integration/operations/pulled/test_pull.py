"""A JSON API on this machine pulled into a real stream, and read back by the decoder that the ingestor uses."""

from __future__ import annotations

import asyncio
import gzip
import json
import time

import msgspec
import pytest

from libs.adapters.bus import Bus
from libs.adapters.http import NoAnswer
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.operations import pull as pulling
from tests.integration.operations.pulled.api import Answer, Api, a_pull, an_order, landed, records


async def test_records_become_events_of_their_address(bus: Bus, orders: Dataset, api: Api) -> None:
    api.answers = [Answer(body=records(*(an_order(number) for number in range(1_200))))]
    done = await a_pull(bus, orders, f"{api.url}?limit=1200&token=s3cret").once()

    assert (done.rounds, done.records, done.events, done.entries) == (1, 1_200, 1_200, 3)
    rows, refused = await landed(bus, orders)
    assert (len(rows), refused) == (1_200, [])
    assert {row["source_system"] for row in rows} == {api.url}
    assert (rows[7]["source_order_id"], str(rows[7]["amount"])) == ("O-7", "7.10")
    assert api.lines == ["GET /v1/orders?limit=1200&token=s3cret HTTP/1.1"]


async def test_a_record_written_otherwise_is_the_same_event(bus: Bus, orders: Dataset, api: Api) -> None:
    order = an_order(1, lines=[{"sku": "x", "n": 1}])
    api.answers = [
        Answer(body=json.dumps([order]).encode()),
        Answer(body=json.dumps([dict(reversed(order.items()))], indent=3).encode()),
        Answer(body=json.dumps([{**order, "amount": "2.00"}]).encode()),
    ]
    for _ in range(3):
        await a_pull(bus, orders, api.url, path=None).once()

    rows, _ = await landed(bus, orders)
    first, again, other = (row["event_id"] for row in rows)
    assert first == again != other


async def test_a_record_that_is_no_object_is_published_to_be_quarantined(
    bus: Bus, orders: Dataset, api: Api
) -> None:
    api.answers = [Answer(body=records(an_order(1), 7, an_order(2)))]
    done = await a_pull(bus, orders, api.url).once()

    assert (done.records, done.events, done.unreadable) == (3, 3, 1)
    rows, ((reason, detail),) = await landed(bus, orders)
    assert len(rows) == 2
    assert reason == "unreadable"
    assert detail.startswith("line 2:")


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(0),
        Answer(body=records(an_order(1)), missing=5),
        *(Answer(status) for status in (408, 425, 429, 500, 503)),
    ],
    ids=lambda answer: str(answer.status),
)
async def test_trouble_that_may_pass_is_tried_again(
    bus: Bus, orders: Dataset, api: Api, trouble: Answer
) -> None:
    api.answers = [trouble, trouble, Answer(body=records(an_order(1)))]
    done = await a_pull(bus, orders, api.url).once()
    assert (done.events, len(api.asked)) == (1, 3)


async def test_trouble_that_stays_is_told_after_a_few_tries(bus: Bus, orders: Dataset, api: Api) -> None:
    api.answers = [Answer(503)]
    with pytest.raises(NoAnswer, match="answered 503"):
        await a_pull(bus, orders, api.url).once()
    assert len(api.asked) == pulling.ATTEMPTS
    assert await bus.length(orders.stream) == 0


async def test_a_server_that_asks_to_wait_is_given_the_time(bus: Bus, orders: Dataset, api: Api) -> None:
    api.answers = [Answer(429, headers=(("retry-after", "1"),)), Answer(body=records(an_order(1)))]
    began = time.monotonic()
    await a_pull(bus, orders, api.url).once()
    assert time.monotonic() - began >= 1


async def test_one_that_asks_for_too_long_is_not_waited_for(bus: Bus, orders: Dataset, api: Api) -> None:
    api.answers = [Answer(503, headers=(("retry-after", "600"),))]
    with pytest.raises(NoAnswer) as caught:
        await a_pull(bus, orders, api.url).once()
    assert (caught.value.seconds, len(api.asked)) == (600.0, 1)


async def test_a_slow_answer_is_not_waited_for(
    bus: Bus, orders: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "ATTEMPTS", 1)
    let_go = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n[")
        await writer.drain()
        await let_go.wait()
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        with pytest.raises(NoAnswer, match=r"within 0\.3 s"):
            await a_pull(bus, orders, url, timeout=0.3).once()
    finally:
        let_go.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(404), "answered 404"),
        (Answer(401), "answered 401"),
        (
            Answer(302, headers=(("location", "https://elsewhere/x?key=s3cret"),)),
            "ask https://elsewhere/x itself",
        ),
        (Answer(body=b"<html>"), "no JSON"),
        (Answer(204), "no JSON"),
        (Answer(body=b'{"items": []}'), "no 'records'"),
        (Answer(body=b'{"records": {}}'), "no array"),
        (Answer(body=records(an_order(1, note="x" * 3_000))), "larger than"),
        (Answer(body=gzip.compress(b" " * 3_000), headers=(("content-encoding", "gzip"),)), "larger than"),
        (Answer(body=b"plain", headers=(("content-encoding", "gzip"),)), "not be unpacked"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_will_not_get_better_is_said_at_once(
    bus: Bus, orders: Dataset, api: Api, answer: Answer, says: str
) -> None:
    api.answers = [answer]
    with pytest.raises(Permanent) as caught:
        await a_pull(bus, orders, f"{api.url}?token=s3cret", max_bytes=2_048).once()
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert len(api.asked) == 1
    assert await bus.length(orders.stream) == 0


async def test_headers_and_credentials_are_sent_and_stand_in_no_message(
    bus: Bus, orders: Dataset, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="httpx")
    api.answers = [Answer(body=records()), Answer(403)]
    url = api.url.replace("http://", "http://me:s3cret@")
    await a_pull(bus, orders, url, headers={"X-Api-Key": "s3cret"}).once()
    with pytest.raises(Permanent) as caught:
        await a_pull(bus, orders, url, headers={"X-Api-Key": "s3cret"}).once()
    assert api.asked[0]["x-api-key"] == "s3cret"
    assert api.asked[0]["authorization"].startswith("basic ")
    assert "s3cret" not in f"{caught.value}{caplog.text}"
    for headers in ({"X Y": "v"}, {"X": "v\r\nY: s3cret"}):
        with pytest.raises(Permanent) as caught:
            await a_pull(bus, orders, url, headers=headers).once()
        assert "s3cret" not in str(caught.value)
    assert len(api.asked) == 2


async def test_events_of_a_pull_are_in_one_trace(bus: Bus, orders: Dataset, api: Api) -> None:
    api.answers = [Answer(body=records(*(an_order(number) for number in range(600))))]
    await a_pull(bus, orders, api.url).once()
    traces = {entry.traceparent async for entry in bus.unhandled(orders.stream, "ingestor")}
    assert len(traces) == 1
    assert None not in traces


async def test_what_is_published_says_where_it_is_from(bus: Bus, orders: Dataset, api: Api) -> None:
    order = an_order(1, buyer="B-1", amount=1.5)
    del order["customer_id"]
    api.answers = [Answer(body=records(order))]
    this = a_pull(bus, orders, api.url)
    this.source, this.mapping = "urn:shop", {"customer_id": "buyer"}
    await this.once()
    (row,), _ = await landed(bus, orders)
    assert (row["source_system"], row["customer_id"]) == ("urn:shop", "B-1")
    assert msgspec.json.decode(row["raw_payload"])["amount"] == 1.5
