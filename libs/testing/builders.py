"""Events as producers send them, with what a test does not care about filled in.

Identities never repeat within a process. `time` is left out, so an event happens when its entry is written;
give one where order or freshness matters. An override named like a field of `data` goes there, any other is
an attribute of the envelope; `...` takes something away.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

__all__ = ["Event", "a_batch_of", "a_payment", "an_order_placed", "encoded"]

Event = dict[str, Any]

_numbers: Final = itertools.count(1)


def an_order_placed(**overrides: Any) -> Event:
    """An order of 42.50, placed on 2026-01-05. `data` replaces the data whole."""
    number = next(_numbers)
    data = {
        "order_id": f"order-{number}",
        "customer_id": f"customer-{number % 7}",
        "amount": "42.50",
        "created_at": "2026-01-05T09:30:00Z",
    }
    return _event("orders", "order.placed", number, data, overrides)


def a_payment(**overrides: Any) -> Event:
    """A captured payment of 100.00 EUR with a fee of 0.3500, for the dataset in tests/data/datasets."""
    number = next(_numbers)
    data = {
        "payment_id": number,
        "account": f"ACC-{number % 10_000:04}",
        "currency": "EUR",
        "amount": "100.00",
        "fee": 0.35,
        "paid_on": "2026-01-05",
        "settled": True,
        "captured_at": "2026-01-05T09:30:00+01:00",
    }
    return _event("payments", "payment.captured", number, data, overrides)


def a_batch_of(n: int, build: Callable[..., Event] = an_order_placed, **overrides: Any) -> list[Event]:
    """n events that differ in identity and key only."""
    return [build(**overrides) for _ in range(n)]


def encoded(events: Event | Sequence[Event]) -> bytes:
    """The `data` field of a stream entry: one event as a JSON object, several as a JSON array."""
    return msgspec.json.encode(events)


def _event(
    dataset: str, event_type: str, number: int, data: dict[str, Any], overrides: dict[str, Any]
) -> Event:
    event: Event = {
        "specversion": "1.0",
        "id": f"{dataset}-{number}",
        "source": f"urn:test:{dataset}",
        "type": event_type,
        "dataschema": f"urn:drp:{dataset}:v1",
        "data": data,
    }
    for name, value in overrides.items():
        holder = data if name in data else event
        holder[name] = value
    return {name: _present(value) for name, value in event.items() if value is not ...}


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: inner for name, inner in value.items() if inner is not ...}
    return value
