"""Whatever the bytes, the decoder gives slots: it never raises, loses nothing, and never makes a number up."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.pipeline import jsontext
from libs.pipeline.decode import REASONS, Decoder, Slots
from libs.testing.builders import an_order_placed, encoded
from tests.unit.pipeline.decoding import ENTRY_ID, ORDERS, PAYMENTS

DECODERS = [(Decoder(dataset), dataset) for dataset in (ORDERS, PAYMENTS)]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
TOKENS = st.sampled_from(
    ['"12.3"', "1e5", "-0", "1e999999999", "true", "null", '"2026-01-05"', '"2026-01-05T10:00:00Z"', '"\\u0000"',
     '"\\ud800"', "[[[[]]]]", '"NaN"', "9" * 30, '"0001-01-01T00:00:00+14:00"', '""', "{}", "0.00001", '"\\u0061"']
)  # fmt: skip
FIELDS = [
    "order_id",
    "customer_id",
    "amount",
    "created_at",
    "other",
    "payment_id",
    "fee",
    "paid_on",
    "settled",
]
ATTRIBUTES = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "subject",
    "dataschema",
    "drporigin",
    "traceparent",
    "x",
]


@st.composite
def almost_events(draw: st.DrawFn) -> bytes:
    """Events of which some attributes and fields are something else, written by hand so that any token goes."""
    event = an_order_placed()
    data = {name: json.dumps(value) for name, value in event.pop("data").items()}
    attributes = {name: json.dumps(value) for name, value in event.items()}
    data |= draw(st.dictionaries(st.sampled_from(FIELDS), TOKENS, max_size=3))
    attributes |= draw(st.dictionaries(st.sampled_from(ATTRIBUTES), TOKENS, max_size=2))
    for name in draw(st.sets(st.sampled_from([*ATTRIBUTES, "none"]), max_size=1)):
        attributes.pop(name, None)
    attributes["data"] = "{" + ",".join(f'"{name}":{token}' for name, token in data.items()) + "}"
    return ("{" + ",".join(f'"{name}": {token}' for name, token in attributes.items()) + "}").encode()


def check(slots: Slots, dataset: Any) -> None:
    positions = sorted([row[-1] for row in slots.rows] + [refused.position for refused in slots.refused])
    assert positions == list(range(slots.count))
    assert slots.count > 0
    for refused in slots.refused:
        assert refused.reason in REASONS
        assert refused.detail
        assert "\x00" not in "".join(filter(None, [refused.detail, refused.event_id, refused.source_system]))
    for row in slots.rows:
        _check_row(row, dataset)


def _check_row(row: tuple[Any, ...], dataset: Any) -> None:
    for column, value in zip(dataset.columns, row[1:], strict=False):
        assert value is not None or not column.required
        if isinstance(value, Decimal):
            assert value == round(value, column.scale)
            assert abs(value) < Decimal(10) ** (column.precision - column.scale)
        if isinstance(value, dt.datetime):
            assert value.tzinfo is dt.UTC
    for text in (value for value in row if isinstance(value, str)):
        assert "\x00" not in text
        text.encode()
    payload = row[len(dataset.columns) + 2]
    assert isinstance(json.loads(payload), dict)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_become_slots(data: bytes) -> None:
    for decoder, dataset in DECODERS:
        check(decoder.decode(data, entry_id=ENTRY_ID), dataset)


@given(JSON)
@settings(deadline=None)
def test_any_json_becomes_slots(document: Any) -> None:
    for decoder, dataset in DECODERS:
        check(decoder.decode(json.dumps(document).encode(), entry_id=ENTRY_ID), dataset)


@given(st.lists(almost_events(), min_size=1, max_size=4))
@settings(deadline=None)
def test_an_array_is_read_as_its_events_are(events: list[bytes]) -> None:
    """The fast way and the exact one agree, and a refusal keeps the event's own bytes."""
    for decoder, dataset in DECODERS:
        together = decoder.decode(b"[" + b",".join(events) + b"]", entry_id=ENTRY_ID)
        alone = [decoder.decode(event, entry_id=ENTRY_ID) for event in events]
        check(together, dataset)
        assert [row[:-1] for row in together.rows] == [row[:-1] for slots in alone for row in slots.rows]
        assert [(refused.reason, refused.detail) for refused in together.refused] == [
            (refused.reason, refused.detail) for slots in alone for refused in slots.refused
        ]
        assert all(refused.original == events[refused.position] for refused in together.refused)


@given(
    almost_events(), st.integers(min_value=0), st.binary(max_size=3), st.integers(min_value=0, max_value=3)
)
@settings(deadline=None)
def test_a_damaged_event_becomes_slots(event: bytes, at: int, insert: bytes, drop: int) -> None:
    at %= len(event)
    damaged = event[:at] + insert + event[at + drop :]
    for decoder, dataset in DECODERS:
        check(decoder.decode(damaged, entry_id=ENTRY_ID), dataset)
        check(decoder.decode(b"[" + event + b"," + damaged + b"]", entry_id=ENTRY_ID), dataset)


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=2, min_value=-(10**10) + 1, max_value=10**10 - 1
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_an_amount_of_two_places_is_read_exactly(amount: Decimal, as_number: bool) -> None:
    token = msgspec.Raw(str(amount).encode()) if as_number else str(amount)
    (row,) = DECODERS[0][0].decode(encoded(an_order_placed(amount=token)), entry_id=ENTRY_ID).rows

    assert row[3] == amount


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
@example(0.1)
@example(1e22)
def test_a_number_lands_exactly_or_not_at_all(number: float) -> None:
    slots = DECODERS[0][0].decode(encoded(an_order_placed(amount=number)), entry_id=ENTRY_ID)
    written = Decimal(repr(number))

    assert [row[3] for row in slots.rows] in ([written], [])
    assert bool(slots.rows) == (abs(written) < 10**10 and written == round(written, 2))


@given(JSON, st.integers(min_value=1, max_value=6))
@settings(deadline=None)
def test_depth_is_what_the_values_say(document: Any, limit: int) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    text = json.dumps(document).encode()
    assert jsontext.is_deeper(text, limit) == (depth(document) > limit)
    assert jsontext.may_be_deeper(text, limit) or not jsontext.is_deeper(text, limit)


@given(st.lists(JSON, max_size=6))
@settings(deadline=None)
def test_an_array_is_split_as_the_parser_splits_it(document: list[Any]) -> None:
    text = json.dumps(document, indent=1).encode()
    found = jsontext.elements(text, 100)

    assert found is not None
    assert [json.loads(element) for element in found] == document
    assert jsontext.elements(text, 2) == found[:3]


@given(JSON)
@settings(deadline=None)
def test_a_nul_is_found_where_there_is_one(document: Any) -> None:
    def has_nul(value: Any) -> bool:
        if isinstance(value, dict):
            return any("\x00" in key or has_nul(inner) for key, inner in value.items())
        return (
            any(map(has_nul, value))
            if isinstance(value, list)
            else isinstance(value, str) and "\x00" in value
        )

    assert jsontext.has_nul(json.dumps(document).encode()) == has_nul(document)
