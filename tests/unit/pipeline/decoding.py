"""What the decoder's tests share: the datasets, and events made to the letter."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec

from libs.datasets import load_dataset, load_datasets
from libs.pipeline.decode import REASONS, Decoder, Refused, Slots, raw_copy_columns
from libs.testing.builders import Event, an_order_placed, encoded

ORDERS = load_datasets()["orders"]
PAYMENTS = load_dataset(Path("tests/data/datasets/payments"))
ENTRY_ID = "1767607200123-4"
ENTRY_TIME = dt.datetime(2026, 1, 5, 10, 0, 0, 123000, tzinfo=dt.UTC)


def decode(data: bytes, entry_id: str = ENTRY_ID) -> Slots:
    return Decoder(ORDERS).decode(data, entry_id=entry_id)


def row_of(event: Event | bytes) -> dict[str, Any]:
    slots = decode(event if isinstance(event, bytes) else encoded(event))
    assert not slots.refused, slots.refused
    (row,) = slots.rows
    return dict(zip(raw_copy_columns(ORDERS), row, strict=True))


def refusal_of(event: Event | bytes) -> Refused:
    """The refusal of an entry that is one slot."""
    data = event if isinstance(event, bytes) else encoded(event)
    slots = decode(data)
    assert (slots.count, slots.rows) == (1, [])
    (alone,) = slots.refused
    assert alone.position == 0
    assert alone.original == data
    assert alone.reason in REASONS
    return alone


def with_data(text: str) -> bytes:
    """An event whose data is this JSON text, to the letter."""
    return encoded(an_order_placed(data=msgspec.Raw(text.encode())))


def with_amount(token: str) -> bytes:
    return with_data(
        f'{{"order_id":"o","customer_id":"c","amount":{token},"created_at":"2026-01-05T09:30:00Z"}}'
    )


def with_extra(text: str) -> bytes:
    return with_data(
        f'{{"order_id":"o","customer_id":"c","amount":"1","created_at":"2026-01-05T09:30:00Z","x":{text}}}'
    )
