"""What becomes a row."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import msgspec
import pytest

from libs.pipeline.decode import Decoder, LandedRow
from libs.testing.builders import a_batch_of, a_payment, an_order_placed, encoded
from tests.unit.pipeline.decoding import (
    ENTRY_ID,
    ENTRY_TIME,
    PAYMENTS,
    decode,
    row_of,
    with_amount,
    with_data,
    with_extra,
)


def test_an_order_becomes_a_row_in_the_order_of_the_columns() -> None:
    event = an_order_placed(
        id="e1", source="urn:shop", time="2026-01-05T10:00:00+01:00", subject="s", traceparent="00-a-b-01"
    )
    row = row_of(event)

    assert row == {
        "event_id": "e1",
        "source_order_id": event["data"]["order_id"],
        "customer_id": event["data"]["customer_id"],
        "amount": Decimal("42.50"),
        "order_created_at": dt.datetime(2026, 1, 5, 9, 30, tzinfo=dt.UTC),
        "source_system": "urn:shop",
        "raw_payload": msgspec.json.encode(event["data"]).decode(),
        "event_time": dt.datetime(2026, 1, 5, 9, 0, tzinfo=dt.UTC),
        "event_type": "order.placed",
        "subject": "s",
        "dataschema": "urn:drp:orders:v1",
        "traceparent": "00-a-b-01",
        "origin": "live",
        "extensions": None,
        "stream_entry_id": ENTRY_ID,
        "stream_position": 0,
    }


def test_every_type_of_another_dataset_is_read_without_code() -> None:
    event = a_payment(payment_id=7, fee="0.1234", settled=...)
    slots = Decoder(PAYMENTS).decode(encoded(event), entry_id=ENTRY_ID)

    assert slots.rows[0][1:9] == (
        7,
        event["data"]["account"],
        "EUR",
        Decimal("100.00"),
        Decimal("0.1234"),
        dt.date(2026, 1, 5),
        None,
        dt.datetime(2026, 1, 5, 8, 30, tzinfo=dt.UTC),
    )


def test_an_array_keeps_the_positions_of_its_events() -> None:
    events = a_batch_of(5)
    events[2]["data"]["amount"] = "NaN"
    slots = decode(encoded(events))

    assert slots.count == 5
    assert [row[-1] for row in slots.rows] == [0, 1, 3, 4]
    assert [refused.position for refused in slots.refused] == [2]
    assert slots.refused[0].original == encoded(events[2])


def test_without_a_time_the_entry_tells_it() -> None:
    assert row_of(an_order_placed())["event_time"] == ENTRY_TIME
    assert row_of(an_order_placed(time=None))["event_time"] == ENTRY_TIME


@pytest.mark.parametrize("entry_id", ["99999999999999999-0", "never"])
def test_without_any_time_it_is_refused(entry_id: str) -> None:
    (refused,) = decode(encoded(an_order_placed()), entry_id).refused

    assert (refused.reason, refused.field) == ("not_an_event", "time")


def test_other_attributes_are_kept_as_extensions() -> None:
    usual = row_of(an_order_placed(datacontenttype="application/json", tracestate="a=b"))
    rare = row_of(an_order_placed(datacontenttype="application/json", partitionkey="k", gone=None, n=1.0))

    assert usual["extensions"] == '{"datacontenttype":"application/json","tracestate":"a=b"}'
    assert rare["extensions"] == '{"datacontenttype":"application/json","partitionkey":"k","n":1.0}'


@pytest.mark.parametrize("origin", ["live", "backfill", "replay", "redrive"])
def test_the_origin_has_its_own_column(origin: str) -> None:
    row = row_of(an_order_placed(drporigin=origin))

    assert (row["origin"], row["extensions"]) == (origin, None)


def test_further_fields_stay_in_the_payload() -> None:
    row = row_of(with_extra('{"deep":[1.50,1e400,{"é":"\\ud83d\\ude00"}]}'))

    assert row["raw_payload"].endswith('"x":{"deep":[1.50,1e400,{"é":"\\ud83d\\ude00"}]}}')


def test_of_duplicate_keys_the_last_one_counts_as_in_jsonb() -> None:
    data = (
        '{"order_id":"first","order_id":"o","customer_id":"c","amount":1,"created_at":"2026-01-05T09:30:00Z"}'
    )

    assert row_of(with_data(data))["source_order_id"] == "o"


@pytest.mark.parametrize(
    ("token", "amount"),
    [
        ('"12.34"', "12.34"),
        ("12.34", "12.34"),
        ("0.1", "0.10"),
        ("12.340", "12.34"),
        ("1e2", "100"),
        ('"1E+2"', "100"),
        ("1234567890.1e-1", "123456789.01"),
        ('"0012.30"', "12.30"),
        ("9999999999.99", "9999999999.99"),
        ("-3", "-3"),
        ("-0.0", "0"),
        ('"-0"', "0"),
        ("0.10000000000000000000", "0.1"),
        ("0e-99", "0"),
    ],
)
def test_a_decimal_is_read_exactly_from_number_or_text(token: str, amount: str) -> None:
    found = row_of(with_amount(token))["amount"]

    assert found == Decimal(amount)
    assert not found.is_signed() or found < 0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-05T09:30:00Z", "2026-01-05T09:30:00+00:00"),
        ("2026-01-05t09:30:00z", "2026-01-05T09:30:00+00:00"),
        ("2026-01-05 09:30:00", "2026-01-05T09:30:00+00:00"),
        ("2026-01-05T09:30:00-05:30", "2026-01-05T15:00:00+00:00"),
        ("2026-01-05", "2026-01-05T00:00:00+00:00"),
        ("2026-01-05T09:30:00.1234567Z", "2026-01-05T09:30:00.123457+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("0001-01-01T00:00:01Z", "0001-01-01T00:00:01+00:00"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_timestamp_is_rfc_3339_and_ends_up_in_utc(text: str, moment: str) -> None:
    row = row_of(an_order_placed(created_at=text, time=text))

    assert row["order_created_at"] == row["event_time"] == dt.datetime.fromisoformat(moment)
    assert row["order_created_at"].tzinfo is dt.UTC


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 0])
def test_a_whole_number_fills_bigint_to_its_ends(value: int) -> None:
    slots = Decoder(PAYMENTS).decode(encoded(a_payment(payment_id=value)), entry_id=ENTRY_ID)

    assert slots.rows[0][1] == value


@pytest.mark.parametrize("id_", ["x" * 900, "é" * 490])
def test_a_long_identity_lands_if_it_fits(id_: str) -> None:
    assert row_of(an_order_placed(id=id_))["event_id"] == id_


@pytest.mark.parametrize(
    "data",
    [
        with_extra("[" * 30 + "]" * 30),
        with_extra(f'["{"[" * 50}"]'),
        with_extra('"a\\\\u0000b"'),
        with_extra("1e131071"),
        with_extra("1e-16383"),
        with_extra("0." + "0" * 16_382 + "1"),
        with_extra('"1e999999"'),
        with_extra('"\\ud83d\\ude00"'),
        with_extra('"\\\\ud83d"'),
        with_extra("12345678901e131061"),
        b" \n" + encoded(an_order_placed()) + b"\n",
        b" [\n" + encoded(an_order_placed()) + b" ]\n",
    ],
    ids=lambda value: value[-32:],
)
def test_what_only_looks_wrong_lands(data: bytes) -> None:
    slots = decode(data)

    assert (slots.count, slots.refused) == (1, [])


def test_bulk_and_single_reading_agree_on_a_mixed_array() -> None:
    events = [
        *a_batch_of(3),
        an_order_placed(amount=1e-7),
        an_order_placed(note="x"),
        an_order_placed(created_at="2026-01-05"),
    ]
    events[1]["data"]["further"] = {"deep": [1]}
    together = decode(encoded(events))
    alone = [decode(encoded(event)) for event in events]

    rows: list[LandedRow] = [row[:-1] for row in together.rows]
    assert rows == [row[:-1] for slots in alone for row in slots.rows]
    assert [refused.reason for refused in together.refused] == ["not_exact"]
