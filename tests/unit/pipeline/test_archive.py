"""The archive's keys, lines and manifests."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.datasets import load_dataset, load_datasets
from libs.errors import Permanent
from libs.pipeline.archive import (
    FORMAT,
    ArchivedObject,
    BatchManifest,
    accepted_lines,
    batch_key,
    batch_manifest_of,
    decode_manifest,
    encode_manifest,
    event_of,
    mart_key,
    read_lines,
    snapshot_manifest_key,
)
from libs.pipeline.decode import Decoder, raw_copy_columns
from libs.pipeline.refusals import MAX_AGAIN_BYTES, MAX_EVENT_BYTES

ORDERS = load_datasets()["orders"]
PAYMENTS = load_dataset(Path("tests/data/datasets/payments"))
BATCH = uuid.UUID("0190b5a4-7b7e-7000-8000-000000000001")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LATE_EVENING = dt.datetime(2026, 1, 5, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2)))


def a_manifest(**changes: Any) -> BatchManifest:
    values: dict[str, Any] = {
        "format": FORMAT,
        "dataset": "orders",
        "batch_id": BATCH,
        "contract_version": "1.0.0",
        "dataschema": "urn:drp:orders:v1",
        "columns": ["amount"],
        "opened_at": LATE_EVENING,
        "closed_at": LATE_EVENING,
        "first_event_time": None,
        "last_event_time": None,
        "traceparent": None,
        "received": 2,
        "count": 2,
        "duplicate": 0,
        "quarantined": 0,
        "conflicts": 0,
        "dead_lettered": 0,
        "bytes": 10,
        "sha256": "a",
        "content_sha256": "b",
        "objects": [ArchivedObject(key="k", kind="raw", records=2, bytes=10, sha256="a", content="sha256:b")],
    }
    return BatchManifest(**{**values, **changes})


def test_the_day_of_a_key_is_in_utc() -> None:
    assert batch_key("orders", LATE_EVENING, BATCH, "jsonl.gz") == (
        f"raw/orders/ingest_date=2026-01-06/batch_id={BATCH}.jsonl.gz"
    )
    assert mart_key("orders", LATE_EVENING, 7, "daily") == (
        "analytics/orders/snapshot_date=2026-01-06/generation=7/daily.parquet"
    )
    assert snapshot_manifest_key("orders", LATE_EVENING, 7).endswith("generation=7/manifest.json")


def test_a_manifest_is_known_by_its_key() -> None:
    assert batch_manifest_of(batch_key("orders", LATE_EVENING, BATCH, "manifest.json")) == BATCH
    for other in ("jsonl.gz", "quarantine.jsonl.gz"):
        assert batch_manifest_of(batch_key("orders", LATE_EVENING, BATCH, other)) is None
    assert batch_manifest_of("raw/orders/batch_id=none.manifest.json") is None


def test_a_manifest_comes_back_as_it_was() -> None:
    manifest = a_manifest()

    assert decode_manifest(encode_manifest(manifest), BatchManifest) == manifest
    assert encode_manifest(manifest) == encode_manifest(a_manifest())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff"])
def test_what_is_no_manifest_is_refused(body: bytes) -> None:
    with pytest.raises(Permanent, match="no manifest"):
        decode_manifest(body, BatchManifest)


def test_a_manifest_of_another_format_is_refused() -> None:
    with pytest.raises(Permanent, match="another format"):
        decode_manifest(encode_manifest(a_manifest(format=FORMAT + 1)), BatchManifest)


def test_manifests_say_the_same_whatever_compressed_and_whichever_contract() -> None:
    (document,) = a_manifest().objects
    recompressed = msgspec.structs.replace(document, bytes=9, sha256="c")
    other_lines = msgspec.structs.replace(document, content="sha256:d")

    assert a_manifest().says_the_same_as(a_manifest(contract_version="1.1.0", objects=[recompressed]))
    assert not a_manifest().says_the_same_as(a_manifest(objects=[other_lines]))
    assert not a_manifest().says_the_same_as(a_manifest(count=3))
    assert not a_manifest().says_the_same_as(a_manifest(objects=[]))


def test_the_sql_names_the_dataset_and_its_condition() -> None:
    sql = accepted_lines(replace(ORDERS, name="payments"), "batch_id = $1")

    assert "FROM raw.payments_raw WHERE batch_id = $1 ORDER BY id" in sql


@pytest.mark.parametrize("text", [b"", b"{}", b"not json", b'{"envelope":1,"data":2,"slot":"x"}', b"\xff"])
def test_what_is_no_line_of_the_archive_is_refused(text: bytes) -> None:
    with pytest.raises(Permanent, match="a line of the archive"):
        read_lines([text])


def test_attributes_are_replaced_and_the_payload_is_not_touched() -> None:
    data = b'{"amount": 1.50, "b": [1, {"c": null}]}'
    line = b'{"envelope": {"id": "1", "drporigin": "live"}, "data": ' + data + b', "slot": "1-1/0"}'

    (read,) = read_lines([line])
    event = event_of(read, {"drporigin": msgspec.Raw(b'"replay"')}, ORDERS)

    assert event == b'{"id":"1","drporigin":"replay","data":' + data + b"}"


def test_an_event_at_the_limit_loses_the_spaces_that_jsonb_put_in() -> None:
    data = b"{" + b", ".join(b'"k%d": 1' % number for number in range(22_000)) + b"}"
    line = b'{"envelope": {"id": "1"}, "data": ' + data + b', "slot": "1-1/0"}'
    assert len(line) > MAX_AGAIN_BYTES

    (read,) = read_lines([line])
    event = event_of(read, {}, ORDERS)

    assert len(event) <= MAX_EVENT_BYTES
    assert msgspec.json.decode(event)["data"] == msgspec.json.decode(data)


def test_numbers_that_jsonb_wrote_out_are_short_again_but_for_whole_ones_of_the_contract() -> None:
    wide = b"1" + b"0" * 20_000
    numbers = [wide, b"-" + wide, b"0." + b"0" * 20_000 + b"150", b"-0.50", b'"10000"', b"1" * 60_000 + b".0"]
    data = b'{"note": [%s], "payment_id": 7000000000000000000, "amount": 12000.00}' % b", ".join(numbers * 10)
    line = b'{"envelope": {"shard": ' + wide + b'}, "data": ' + data + b', "slot": "1-1/0"}'

    (read,) = read_lines([line])
    event = event_of(read, {}, PAYMENTS)

    short = b'1e20000,-1e20000,150e-20003,-0.50,"10000",' + b"1" * 60_000 + b".0"
    assert event == (
        b'{"shard":1e20000,"data":{"note":['
        + b",".join([short] * 10)
        + b'],"payment_id":7000000000000000000,"amount":12000.00}}'
    )


def as_jsonb(value: Any) -> bytes:
    """What Postgres makes of a document: names by length, then bytes; a space after each comma and colon."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
        inside = b", ".join(msgspec.json.encode(name) + b": " + as_jsonb(value[name]) for name in names)
        return b"{" + inside + b"}"
    if isinstance(value, list):
        return b"[" + b", ".join(map(as_jsonb, value)) + b"]"
    return msgspec.json.encode(value)


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
orders = st.fixed_dictionaries(
    {
        "order_id": texts.filter(bool),
        "customer_id": texts,
        "amount": st.decimals(-(10**10) + 1, 10**10 - 1, places=2).map(str),
        "created_at": st.integers(0, 7 * 10**15).map(
            lambda after: (EPOCH + dt.timedelta(microseconds=after)).isoformat()
        ),
    },
    optional={"note": documents},
)


@given(data=orders, subject=st.none() | texts, event_id=texts.filter(bool))
def test_any_accepted_payload_is_read_from_the_archive_as_it_was_read_when_it_landed(
    data: dict[str, Any], subject: str | None, event_id: str
) -> None:
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": "urn:shop",
        "type": "order.placed",
        "time": "2026-01-02T03:04:05.000000Z",
        **({} if subject is None else {"subject": subject}),
    }
    decoder = Decoder(ORDERS)
    landed = decoder.decode(msgspec.json.encode({**envelope, "data": data}), entry_id="1-1")
    line = b'{"envelope": ' + as_jsonb(envelope) + b', "data": ' + as_jsonb(data) + b', "slot": "1-1/0"}'

    again = decoder.decode(event_of(read_lines([line])[0], {}, ORDERS), entry_id="1-1")

    payload = raw_copy_columns(ORDERS).index("raw_payload")
    assert not landed.refused
    assert not again.refused
    (first,), (second,) = landed.rows, again.rows
    assert [value for index, value in enumerate(second) if index != payload] == [
        value for index, value in enumerate(first) if index != payload
    ]
    assert second[payload].encode() == as_jsonb(data)
