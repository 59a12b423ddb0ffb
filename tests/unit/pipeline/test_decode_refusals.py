"""How precisely a refusal says why."""

from __future__ import annotations

import base64

import msgspec
import pytest

from libs.pipeline.decode import Decoder
from libs.pipeline.refusals import MAX_AGAIN_BYTES, MAX_ENTRY_BYTES, MAX_EVENT_BYTES, MAX_EVENTS
from libs.testing.builders import a_payment, an_order_placed, encoded
from tests.unit.pipeline.decoding import (
    ENTRY_ID,
    PAYMENTS,
    decode,
    refusal_of,
    with_amount,
    with_extra,
)


@pytest.mark.parametrize(
    ("token", "reason", "detail"),
    [
        ('"12.345"', "not_exact", "3 digits after the point, numeric(12,2) holds 2"),
        ("0.001", "not_exact", "3 digits after"),
        ("12345678901", "not_exact", "11 digits before the point, numeric(12,2) holds 10"),
        ("1e999999999", "not_exact", "digits before"),
        ("1e-999999999", "not_exact", "digits after"),
        ("1e99999999999999999999", "not_exact", "exponent is beyond"),
        ('"NaN"', "wrong_type", "NaN and infinity"),
        ('"-Infinity"', "wrong_type", "NaN and infinity"),
        ('"sNaN"', "wrong_type", "NaN and infinity"),
        ("true", "wrong_type", "not a boolean"),
        ("[1]", "wrong_type", "not an array"),
        ('{"value":1}', "wrong_type", "not an object"),
        ('""', "wrong_type", "no decimal"),
        ('"1_000"', "wrong_type", "no decimal"),
        ('" 1"', "wrong_type", "no decimal"),
        ('"1,5"', "wrong_type", "no decimal"),
        ('"\\u0661"', "wrong_type", "no decimal"),
        ('"+1"', "wrong_type", "no decimal"),
        ('".5"', "wrong_type", "no decimal"),
        ("null", "field_missing", "amount is null"),
    ],
)
def test_what_is_no_such_decimal_is_refused(token: str, reason: str, detail: str) -> None:
    refused = refusal_of(with_amount(token))

    assert (refused.reason, refused.field) == (reason, "amount")
    assert detail in refused.detail


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "",
        1767607200,
        "2026-02-30",
        "2026-01-05T24:00:00Z",
        "2026-01-05T09:30Z",
        "20260105T093000Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-10:00",
        "0001-01-01",
        "9999-12-31T23:59:59.999999Z",
        True,
        {},
        "9999-12-31T23:59:60Z",
        "infinity",
        "-infinity",
        "now",
    ],
)
def test_what_is_no_such_timestamp_is_refused(value: object) -> None:
    as_field = refusal_of(an_order_placed(created_at=value))
    as_time = refusal_of(an_order_placed(time=value))

    assert (as_field.reason, as_field.field) == ("wrong_type", "created_at")
    assert (as_time.reason, as_time.field) == ("not_an_event", "time")


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"payment_id": "7"}, "wrong_type", "payment_id"),
        ({"payment_id": 7.0}, "wrong_type", "payment_id"),
        ({"payment_id": True}, "wrong_type", "payment_id"),
        ({"payment_id": 2**63}, "not_exact", "payment_id"),
        ({"payment_id": -(2**63) - 1}, "not_exact", "payment_id"),
        ({"settled": "true"}, "wrong_type", "settled"),
        ({"settled": 1}, "wrong_type", "settled"),
        ({"account": 5}, "wrong_type", "account"),
        ({"paid_on": "2026-01-05T00:00:00Z"}, "wrong_type", "paid_on"),
        ({"paid_on": "2026-02-30"}, "wrong_type", "paid_on"),
        ({"paid_on": 20260105}, "wrong_type", "paid_on"),
        ({"paid_on": "9999-12-31"}, "wrong_type", "paid_on"),
        ({"fee": 0.12345}, "not_exact", "fee"),
        ({"currency": ...}, "field_missing", "currency"),
        ({"currency": None}, "field_missing", "currency"),
    ],
)
def test_every_column_type_has_its_refusals(changes: dict[str, object], reason: str, field: str) -> None:
    decoder = Decoder(PAYMENTS)
    event = encoded(a_payment(**changes))
    for data in (event, b"[" + encoded(a_payment()) + b"," + event + b"]"):
        (refused,) = decoder.decode(data, entry_id=ENTRY_ID).refused
        assert (refused.reason, refused.field, refused.original) == (reason, field, event)


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"specversion": ...}, "not_an_event", "specversion"),
        ({"specversion": 1.0}, "not_an_event", "specversion"),
        ({"specversion": "0.3"}, "unknown_version", "specversion"),
        ({"dataschema": "urn:drp:orders:v2"}, "unknown_version", "dataschema"),
        ({"dataschema": 1}, "not_an_event", "dataschema"),
        ({"id": ...}, "not_an_event", "id"),
        ({"id": ""}, "not_an_event", "id"),
        ({"id": 5}, "not_an_event", "id"),
        ({"source": None}, "not_an_event", "source"),
        ({"type": ...}, "not_an_event", "type"),
        ({"subject": 5}, "not_an_event", "subject"),
        ({"traceparent": []}, "not_an_event", "traceparent"),
        ({"drporigin": "elsewhere"}, "not_an_event", "drporigin"),
        ({"data": ...}, "not_an_event", "data"),
        ({"data": None}, "not_an_event", "data"),
        ({"data": "text"}, "not_an_event", "data"),
        ({"data": ["list"]}, "not_an_event", "data"),
        ({"data": {}}, "field_missing", "order_id"),
        ({"customer_id": ...}, "field_missing", "customer_id"),
        ({"id": "é" * 600}, "not_an_event", "id"),
        ({"drpunreadable": "line 7: no such column"}, "unreadable", None),
    ],
)
def test_the_envelope_has_its_refusals(changes: dict[str, object], reason: str, field: str | None) -> None:
    refused = refusal_of(an_order_placed(**changes))

    assert (refused.reason, refused.field) == (reason, field)


def test_an_unreadable_line_says_what_the_publisher_found() -> None:
    refused = refusal_of(an_order_placed(drpunreadable="line 7: no\x00such column", data={"line": 7}))

    assert refused.detail == "line 7: no\ufffdsuch column"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "undecodable"),
        (b"   ", "undecodable"),
        (b"{", "undecodable"),
        (b"[", "undecodable"),
        (b"nul", "undecodable"),
        (b'{"a":1}}', "undecodable"),
        (b"[{]", "undecodable"),
        (b"\xef\xbb\xbf{}", "undecodable"),
        (b"\x00", "undecodable"),
        (b"NaN", "undecodable"),
        (b"{'a':1}", "undecodable"),
        (b"[" * 100_000, "undecodable"),
        (b'"\\u12"', "undecodable"),
        (b"null", "not_an_event"),
        (b"1", "not_an_event"),
        (b'"text"', "not_an_event"),
        (b"[]", "not_an_event"),
        (b" [ ] ", "not_an_event"),
        (b"{}", "not_an_event"),
        (b'{"order_id":"o"}', "not_an_event"),
        (b"\xff", "bad_utf8"),
        (b'{"id":"\xff"}', "bad_utf8"),
        (b'{"id":"\\ud800"}', "bad_utf8"),
        (b'{"id":"\\udc00x"}', "bad_utf8"),
        (with_extra('"\\ud83d"'), "bad_utf8"),
        (with_extra('"').replace(b'"x":"', b'"x":"\xed\xa0\x80"'), "bad_utf8"),
        (with_extra('"a\\u0000b"'), "nul_byte"),
        (with_extra('{"a\\u0000":1}'), "nul_byte"),
        (encoded(an_order_placed(id="a\x00")), "nul_byte"),
        (encoded(an_order_placed(order_id="a\x00")), "nul_byte"),
        (encoded(an_order_placed(other="a\x00")), "nul_byte"),
        (with_extra("[" * 31 + "]" * 31), "too_deep"),
        (with_extra("[" * 5000 + "]" * 5000), "too_deep"),
        (with_extra('"' + "x" * MAX_EVENT_BYTES + '"'), "too_large"),
        (with_extra("1e131072"), "unstorable"),
        (with_extra("1e-16384"), "unstorable"),
        (with_extra("9" * 131_073), "unstorable"),
        (with_extra("0." + "0" * 16_383 + "1"), "unstorable"),
        (with_extra("[1.5e-16383]"), "unstorable"),
        (with_extra("1e99999999999"), "unstorable"),
        (with_extra(f"[{','.join(['1e131071'] * 600)}]"), "unstorable"),
        (with_extra(f"[{','.join(['1e-9999'] * 8_000)}]"), "unstorable"),
        (encoded(an_order_placed(other=msgspec.Raw(b"1e131072"))), "unstorable"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else value,
)
def test_bytes_that_cannot_land_are_refused_with_their_reason(data: bytes, reason: str) -> None:
    refused = refusal_of(data)

    assert refused.reason == reason
    assert refused.detail


def of_size(size: int, **envelope: str) -> bytes:
    bare = len(encoded(an_order_placed(note="", **envelope)))
    return encoded(an_order_placed(note="x" * (size - bare), **envelope))


def test_an_event_that_is_replayed_may_be_larger_by_what_the_platform_adds() -> None:
    largest = of_size(MAX_AGAIN_BYTES, drporigin="replay")
    slots = decode(b"[" + largest + b"," + of_size(MAX_EVENT_BYTES) + b"]")

    assert len(largest) == MAX_AGAIN_BYTES
    assert [row[-1] for row in slots.rows] == [0, 1]
    assert refusal_of(of_size(MAX_AGAIN_BYTES + 1, drporigin="replay")).reason == "too_large"
    for others in ({}, {"drporigin": "live"}, {"drporigin": "backfill"}):
        assert refusal_of(of_size(MAX_EVENT_BYTES + 1, **others)).reason == "too_large"


NEIGHBOURS = {
    "bad UTF-8": with_extra('"é"').replace("é".encode(), b"\xff"),
    "a lone surrogate": with_extra('"\\ud800"'),
    "deep nesting": with_extra("[" * 3000 + "]" * 3000),
    "a NUL": with_extra('"\\u0000"'),
    "a wrong type": with_amount('"abc"'),
    "too many bytes": with_extra('"' + "x" * MAX_EVENT_BYTES + '"'),
    "no object": b"[{},[]]",
}


@pytest.mark.parametrize("event", NEIGHBOURS.values(), ids=NEIGHBOURS.keys())
def test_the_neighbours_of_a_refused_event_land(event: bytes) -> None:
    first, last = encoded(an_order_placed(id="first")), encoded(an_order_placed(id="last"))
    slots = decode(b"[ " + first + b" ,\n" + event + b", " + last + b"]")

    assert slots.count == 3
    assert [(row[0], row[-1]) for row in slots.rows] == [("first", 0), ("last", 2)]
    assert [(refused.position, refused.original) for refused in slots.refused] == [(1, event)]


@pytest.mark.parametrize(
    "element", [b"[]", b"null", b"5", b'"text"', b"[" + encoded(an_order_placed()) + b"]"]
)
def test_an_element_that_is_no_object_is_a_slot_of_its_own(element: bytes) -> None:
    (refused,) = decode(b"[" + element + b"]").refused

    assert (refused.reason, refused.original) == ("not_an_event", element)


def test_an_array_with_broken_json_is_one_slot_with_all_its_bytes() -> None:
    data = b"[" + encoded(an_order_placed()) + b',{"id":}]'
    (refused,) = decode(data).refused

    assert (refused.position, refused.reason, refused.original) == (0, "undecodable", data)


def test_an_entry_beyond_the_limits_is_one_slot() -> None:
    too_long = decode(b"[" + b" " * MAX_ENTRY_BYTES + b"]")
    too_many = decode(b"[" + b",".join([b"0"] * (MAX_EVENTS + 1)) + b"]")
    far_too_many = decode(b"[" + b",".join([b"0"] * 4_000_000) + b"]")

    for slots in (too_long, too_many, far_too_many):
        assert (slots.count, slots.rows, slots.refused[0].reason) == (1, [], "too_large")


def test_a_refusal_carries_what_is_known_of_the_event() -> None:
    event = an_order_placed(
        id="e\x001", source="urn:shop", traceparent="00-a-b-01", dataschema="urn:drp:orders:v9", amount=None
    )
    refused = refusal_of(event)

    assert (refused.event_id, refused.source_system) == ("e\ufffd1", "urn:shop")
    assert (refused.traceparent, refused.dataschema) == ("00-a-b-01", "urn:drp:orders:v9")


def test_no_detail_quotes_the_payload() -> None:
    secret = base64.b64encode(b"card number").decode()
    for event in (
        an_order_placed(amount=secret),
        an_order_placed(created_at=secret),
        an_order_placed(drporigin=secret),
    ):
        assert secret not in refusal_of(event).detail
