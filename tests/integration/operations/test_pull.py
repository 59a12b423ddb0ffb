"""A JSON API on this machine pulled into a real stream, and read back by the decoder that the ingestor uses."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from libs.adapters.bus import Bus
from libs.adapters.http import NoAnswer
from libs.datasets import Dataset, load_datasets
from libs.errors import DrpError, Permanent
from libs.operations import pull as pulling
from libs.operations.pull import Address, Pull, Pulled
from libs.pipeline.decode import Decoder, raw_copy_columns
from libs.testing.waiting import until


def an_order(number: int, **changes: object) -> dict[str, object]:
    return {
        "order_id": f"O-{number}",
        "customer_id": "C-1",
        "amount": f"{number}.10",
        "created_at": "2026-01-05T09:30:00Z",
        **changes,
    }


def records(*orders: object) -> bytes:
    return json.dumps({"records": orders, "count": len(orders)}).encode()


@dataclass(frozen=True)
class Answer:
    """status 0 hangs up without a word; says of the body less than it declares if short."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    missing: int = 0


@dataclass
class Api:
    """Gives its answers one after the other, the last one for good; keeps what it was asked."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.splitlines()
        self.lines.append(line)
        self.asked.append(dict(each.lower().split(": ", 1) for each in rest if ": " in each))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.status:
            told = [f"HTTP/1.1 {answer.status} x", f"content-length: {len(answer.body) + answer.missing}"]
            told += [f"{name}: {value}" for name, value in answer.headers]
            writer.write(("\r\n".join([*told, "connection: close"]) + "\r\n\r\n").encode() + answer.body)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def orders() -> Dataset:
    return load_datasets()["orders"]


@pytest.fixture
async def bus(redis_url: str, orders: Dataset) -> AsyncIterator[Bus]:
    opened = await Bus.connect(redis_url, service="tested", consumer="tested-1")
    await opened.ensure_groups({orders.stream: ["ingestor"]})
    yield opened
    await opened.stop()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    this = Api()
    server = await asyncio.start_server(this.serve, "127.0.0.1", 0)
    this.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/orders"
    yield this
    server.close()
    await server.wait_closed()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "FIRST_PAUSE", 0.01)


def a_pull(bus: Bus, dataset: Dataset, url: str, *, path: str | None = "records", **address: Any) -> Pull:
    return Pull(
        bus=bus, dataset=dataset, address=Address(url=url, records=path, **address), rng=random.Random(1)
    )


async def landed(bus: Bus, dataset: Dataset) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Rows for RAW, and (reason, detail) of what is refused."""
    decoder, names = Decoder(dataset), raw_copy_columns(dataset)
    slots = [
        decoder.decode(entry.data, entry_id=entry.id)
        async for entry in bus.unhandled(dataset.stream, "ingestor")
    ]
    return (
        [dict(zip(names, row, strict=True)) for one in slots for row in one.rows],
        [(refused.reason, refused.detail) for one in slots for refused in one.refused],
    )


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


async def test_rounds_publish_what_is_new_and_go_on_after_a_failure(
    bus: Bus, orders: Dataset, api: Api
) -> None:
    api.answers = [
        Answer(body=records(an_order(1), an_order(2), 7)),
        Answer(404),
        Answer(body=records(an_order(2), an_order(3), 7)),
        Answer(body=records(an_order(2), an_order(3, amount="9.99"), 7)),
    ]
    this = a_pull(bus, orders, api.url)
    outcomes: list[Pulled | DrpError] = []

    def told(outcome: Pulled | DrpError) -> None:
        outcomes.append(outcome)
        if len(outcomes) == 4:
            this.stop.set()

    total = await asyncio.wait_for(this.repeat(0.01, told=told), 30)

    assert [one.events if isinstance(one, Pulled) else str(one) for one in outcomes] == [
        3,
        f"{api.url} answered 404 x",
        1,
        1,
    ]
    assert (total.rounds, total.failed, total.records, total.events, total.unreadable) == (4, 1, 9, 5, 1)
    rows, refused = await landed(bus, orders)
    assert [row["source_order_id"] for row in rows] == ["O-1", "O-2", "O-3", "O-3"]
    assert len(refused) == 1


async def test_a_first_round_that_can_not_work_ends_it(bus: Bus, orders: Dataset, api: Api) -> None:
    api.answers = [Answer(404)]
    with pytest.raises(Permanent, match="answered 404"):
        await a_pull(bus, orders, api.url).repeat(60, told=lambda _: None)


async def test_a_pause_ends_when_it_is_told_to_stop(
    bus: Bus, orders: Dataset, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "FIRST_PAUSE", 600.0)
    monkeypatch.setattr(pulling, "LONGEST_PAUSE", 600.0)
    api.answers = [Answer(503)]
    this = a_pull(bus, orders, api.url)
    running = asyncio.create_task(this.repeat(600, told=lambda _: None))
    await until(lambda: api.asked)
    this.stop.set()
    total = await asyncio.wait_for(running, 30)
    assert (total.rounds, total.failed, len(api.asked)) == (1, 1, 1)


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
