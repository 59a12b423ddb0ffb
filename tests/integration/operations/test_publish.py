"""Files published to a real stream, and read back by the decoder that the ingestor uses."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.adapters import telemetry
from libs.adapters.bus import Bus, Entry, RoomExceeded
from libs.datasets import Dataset, load_dataset, load_datasets
from libs.errors import Permanent
from libs.operations import publishing
from libs.operations.publish import publish_file
from libs.pipeline.decode import Decoder, Slots, raw_copy_columns

DATA = Path(__file__).parents[2] / "data"
CDNOW = DATA / "cdnow_orders.csv.gz"


@pytest.fixture
def orders() -> Dataset:
    return load_datasets()["orders"]


@pytest.fixture
async def bus(redis_url: str, orders: Dataset) -> AsyncIterator[Bus]:
    opened = await Bus.connect(redis_url, service="tested", consumer="tested-1")
    await opened.ensure_groups({orders.stream: ["ingestor"]})
    yield opened
    await opened.stop()


async def entries_of(bus: Bus, dataset: Dataset) -> list[Entry]:
    return [entry async for entry in bus.unhandled(dataset.stream, "ingestor")]


async def landed(bus: Bus, dataset: Dataset) -> list[Slots]:
    decoder = Decoder(dataset)
    return [decoder.decode(entry.data, entry_id=entry.id) for entry in await entries_of(bus, dataset)]


async def rows_in(bus: Bus, dataset: Dataset) -> list[dict[str, object]]:
    names = raw_copy_columns(dataset)
    return [dict(zip(names, row, strict=True)) for slots in await landed(bus, dataset) for row in slots.rows]


async def test_every_real_order_arrives_to_the_cent(bus: Bus, orders: Dataset) -> None:
    told: list[int] = []
    published = await publish_file(bus, orders, CDNOW, on_progress=told.append)
    assert (published.events, published.unreadable, published.entries) == (69_659, 0, 140)
    assert published.source == "urn:drp:file:cdnow_orders.csv"
    assert told[-1] == 69_659
    rows = await rows_in(bus, orders)
    assert len({row["event_id"] for row in rows}) == 69_659
    assert sum(Decimal(str(row["amount"])) for row in rows) == Decimal("2500315.63")
    first = next(row for row in rows if row["source_order_id"] == "CDNOW-00001")
    assert first["customer_id"] == "00001"
    assert first["event_time"] == datetime(1997, 1, 1, tzinfo=UTC)
    assert first["origin"] == "backfill"
    assert msgspec.json.decode(str(first["raw_payload"]))["quantity"] == "1"


async def test_entries_are_told_as_the_stream_acknowledges_them(
    bus: Bus, orders: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry._current, "provider", provider)
    told: list[str] = []
    await publish_file(bus, orders, CDNOW, on_entries=told.extend, attributes={"shop.run": "7"})
    assert told == [entry.id for entry in await entries_of(bus, orders)]
    (publishing,) = spans.get_finished_spans()
    assert publishing.attributes is not None
    assert (publishing.attributes["shop.run"], publishing.attributes["drp.events"]) == ("7", 69_659)


async def test_publishing_twice_makes_the_same_events(bus: Bus, orders: Dataset, tmp_path: Path) -> None:
    plain = tmp_path / CDNOW.name.removesuffix(".gz")
    plain.write_bytes(gzip.decompress(CDNOW.read_bytes()))
    await publish_file(bus, orders, CDNOW)
    await publish_file(bus, orders, plain)
    documents = [entry.data for entry in await entries_of(bus, orders)]
    assert len(documents) == 2 * 140
    assert documents[:140] == documents[140:]


async def test_columns_of_other_names_are_mapped(bus: Bus, orders: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("Order No,customer_id,Total,created_at\nA-1,C-1,12.50,2026-01-05T09:30:00Z\n")
    await publish_file(
        bus, orders, path, mapping={"order_id": "Order No", "amount": "Total"}, source="urn:shop"
    )
    (row,) = await rows_in(bus, orders)
    assert (row["source_order_id"], row["amount"]) == ("A-1", Decimal("12.50"))
    assert row["source_system"] == "urn:shop"


async def test_lines_that_are_no_rows_are_published_to_be_quarantined(
    bus: Bus, orders: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    path.write_text(
        "order_id,customer_id,amount,created_at\nA,C,1.00,2026-01-05\nbroken\nB,C,2.00,2026-01-05\n"
    )
    published = await publish_file(bus, orders, path)
    assert (published.events, published.unreadable) == (3, 1)
    slots = await landed(bus, orders)
    assert sum(len(one.rows) for one in slots) == 2
    (refused,) = [refused for one in slots for refused in one.refused]
    assert refused.reason == "unreadable"
    assert refused.detail.startswith("line 3:")
    assert msgspec.json.decode(refused.original)["data"]["text"] == "broken"


async def test_a_value_the_contract_refuses_is_for_the_contract_to_refuse(
    bus: Bus, orders: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(
        '{"order_id":"A","customer_id":"C","amount":1.005,"created_at":"2026-01-05"}\n'
        '{"order_id":"B","customer_id":"C","amount":"1.00","created_at":"yesterday"}\n'
        '{"order_id":"C","customer_id":"C","amount":1.10,"created_at":"2026-01-05"}\n'
    )
    await publish_file(bus, orders, path)
    slots = await landed(bus, orders)
    refused = [(one.reason, one.field) for each in slots for one in each.refused]
    assert refused == [("not_exact", "amount"), ("wrong_type", "created_at")]
    assert [row["amount"] for row in await rows_in(bus, orders)] == [Decimal("1.10")]


async def test_a_dataset_that_nobody_coded_is_published_too(bus: Bus, tmp_path: Path) -> None:
    payments = load_dataset(DATA / "datasets" / "payments")
    await bus.ensure_groups({payments.stream: ["ingestor"]})
    path = tmp_path / "p.csv"
    path.write_text(
        "payment_id,account,currency,amount,fee,paid_on,settled,captured_at\n"
        "17,ACC-0001,EUR,100.00,0.3500,2026-01-05,true,2026-01-05T09:30:00+01:00\n"
    )
    await publish_file(bus, payments, path, time=datetime(2026, 1, 5, tzinfo=UTC))
    slots = await landed(bus, payments)
    assert [one.refused for one in slots] == [[]]
    (row,) = await rows_in(bus, payments)
    assert row["source_system"] == "urn:drp:file:p.csv"


async def test_entries_carry_the_trace_of_the_publication(bus: Bus, orders: Dataset) -> None:
    await publish_file(bus, orders, CDNOW)
    traces = {entry.traceparent for entry in await entries_of(bus, orders)}
    assert len(traces) == 1
    assert None not in traces


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"amount": "Total"}, "no column 'Total'"),
        ({"price": "amount"}, "no field 'price'"),
        ({"order_id": "customer_id"}, "is mapped to another column"),
        ({"order_id": "amount", "customer_id": "amount"}, "mapped to one column"),
    ],
)
async def test_a_mapping_that_makes_no_sense_publishes_nothing(
    bus: Bus, orders: Dataset, mapping: dict[str, str], says: str
) -> None:
    with pytest.raises(Permanent, match=says):
        await publish_file(bus, orders, CDNOW, mapping=mapping)
    assert await bus.length(orders.stream) == 0


async def test_a_file_without_a_required_column_says_how_to_map_one(
    bus: Bus, orders: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    path.write_text("order_id,customer,amount,created_at\n")
    with pytest.raises(Permanent, match="--map customer_id=COLUMN"):
        await publish_file(bus, orders, path)


async def test_a_full_stream_is_waited_for(
    bus: Bus, orders: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "ROOM_WITHIN", 0.2)
    with pytest.raises(RoomExceeded):
        await publish_file(bus, orders, CDNOW, limit=40)
    assert await bus.length(orders.stream) == 40


async def test_a_rate_is_kept(bus: Bus, orders: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    rows = "".join(f"O-{number},C,1.00,2026-01-05\n" for number in range(1000))
    path.write_text("order_id,customer_id,amount,created_at\n" + rows)
    published = await publish_file(bus, orders, path, rate=2000)
    assert published.seconds >= 0.45
