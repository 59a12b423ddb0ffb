"""What the generator publishes: orders that a producer sent, and orders that it made by itself."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.adapters.bus import Bus, RoomExceeded
from libs.adapters.metrics import PRODUCED_EVENTS
from libs.adapters.telemetry import span
from libs.datasets import Dataset
from libs.pipeline.decode import Decoder
from services.generator.domain import EVENT_TYPE, Envelope, Faults, Orders, key_ids, time_ordered_id

__all__ = ["HTTP_SOURCE", "MOST_ORDERS", "PROBLEMS_TOLD", "OrderDoor", "OrderMaker", "Problem", "Refusal"]

HTTP_SOURCE: Final = "urn:drp:http"
MOST_ORDERS: Final = 10_000
PROBLEMS_TOLD: Final = 100
KEYS_REMEMBERED: Final = 10_000
ROOM_WITHIN: Final = 1.0
BURST: Final = 1.0
"""Seconds of its rate that the generator makes up for after a pause."""


class Problem(msgspec.Struct, frozen=True):
    """What the contract refuses: the order's place in the request, the field, and why."""

    index: int
    field: str | None
    reason: str
    detail: str


class Refusal(Exception):
    """The request is wrong; nothing of it was published. status is the HTTP answer's."""

    def __init__(self, error: str, problems: Sequence[Problem] = (), *, status: int = 422) -> None:
        super().__init__(error)
        self.error = error
        self.problems = problems
        self.status = status


class OrderDoor:
    """Takes orders over HTTP: all of a request, or nothing of it.

    Args:
        limit: entries that may wait in the stream.
    """

    def __init__(self, bus: Bus, dataset: Dataset, *, limit: int) -> None:
        self._bus = bus
        self._dataset = dataset
        self._limit = limit
        self._decoder = Decoder(dataset)
        self._bodies: OrderedDict[str, bytes] = OrderedDict()

    async def take(self, body: bytes, *, key: str | None, parent: str | None) -> list[str]:
        """Publish the order or the array of orders in the body; the event ids, once they are in the stream.

        Args:
            key: the producer's name for this request. The ids follow from it: a retry makes duplicates.
            parent: traceparent of the producer's span.

        Raises:
            Refusal: no JSON, no order, too many, the contract refuses some of them, or the key came before
                with another body.
            Transient: Redis is away, or there is no room. Some may have been published: retry with a key.
        """
        orders = _orders(body)
        self._check_key(key, body)
        with span("publish", parent=parent, attributes={"drp.events": len(orders)}) as this:
            ids = _fresh_ids(len(orders)) if key is None else key_ids(key, len(orders))
            events = self._events(ids, orders, this.traceparent)
            self._check(events)
            await self._bus.wait_for_room(self._dataset.stream, limit=self._limit, timeout=ROOM_WITHIN)
            await self._bus.publish_events(self._dataset.stream, events, traceparent=this.traceparent)
        PRODUCED_EVENTS.labels("http").inc(len(ids))
        if key is not None:
            self._remember(key, body)
        return ids

    def _events(self, ids: Sequence[str], orders: Sequence[msgspec.Raw], traceparent: str) -> list[bytes]:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return [
            msgspec.json.encode(
                Envelope(
                    specversion="1.0",
                    id=event_id,
                    source=HTTP_SOURCE,
                    type=EVENT_TYPE,
                    time=now,
                    dataschema=self._dataset.dataschema,
                    traceparent=traceparent,
                    data=order,
                )
            )
            for event_id, order in zip(ids, orders, strict=True)
        ]

    def _check(self, events: Sequence[bytes]) -> None:
        """Ask the decoder that the ingestor will ask, so that the producer learns at once."""
        problems = [
            Problem(index=index, field=one.field, reason=one.reason, detail=one.detail)
            for index, event in enumerate(events)
            for one in self._decoder.decode(event, entry_id="0-0").refused
        ]
        if problems:
            raise Refusal(f"the contract refuses {len(problems)} of {len(events)} orders", problems)

    def _check_key(self, key: str | None, body: bytes) -> None:
        known = None if key is None else self._bodies.get(key)
        if known is not None and known != _digest(body):
            raise Refusal("this Idempotency-Key came before, with other orders: use a new key for them")

    def _remember(self, key: str, body: bytes) -> None:
        self._bodies[key] = _digest(body)
        self._bodies.move_to_end(key)
        if len(self._bodies) > KEYS_REMEMBERED:
            self._bodies.popitem(last=False)


class OrderMaker:
    """Makes orders at a rate, by the clock, and publishes them.

    Args:
        rate: events a second.
        limit: entries that may wait in the stream; beyond it the generator pauses.
    """

    def __init__(
        self, bus: Bus, stream: str, *, rate: float, seed: int, faults: Faults, run_id: str, limit: int
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._rate = rate
        self._limit = limit
        self._orders = Orders(seed, run_id, faults=faults)
        self._due = 0.0
        self._unsent: list[bytes] = []
        self._looked = time.monotonic()

    async def publish_due(self) -> None:
        """Publish what is due since the last call, at most a second's worth.

        Raises:
            Transient: Redis is away. The events under way may or may not be published.
        """
        now = time.monotonic()
        self._due += self._rate * min(now - self._looked, BURST)
        self._looked = now
        count = int(self._due)
        if count == 0 and not self._unsent:
            return
        try:
            await self._bus.wait_for_room(self._stream, limit=self._limit, timeout=0)
        except RoomExceeded:
            self._due = min(self._due, self._rate * BURST)
            return
        self._due -= count
        made = self._orders.take(count, now=datetime.now(UTC))
        # what a lost connection kept from being sent goes first: later events may refer to it
        self._unsent += [event.document for event in made]
        with span("generate", root=True, attributes={"drp.events": len(self._unsent)}) as this:
            await self._bus.publish_events(self._stream, self._unsent, traceparent=this.traceparent)
        PRODUCED_EVENTS.labels("generated").inc(len(self._unsent))
        self._unsent = []


def _orders(body: bytes) -> list[msgspec.Raw]:
    """The orders as they were written: an amount keeps its digits."""
    try:
        whole = msgspec.json.decode(body, type=msgspec.Raw)
        orders = msgspec.json.decode(body, type=list[msgspec.Raw]) if body.lstrip()[:1] == b"[" else [whole]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"the body is not JSON: {error}", status=400) from error
    except RecursionError as error:
        raise Refusal("the body is nested too deep", status=400) from error
    if not orders:
        raise Refusal("there is no order in the body")
    if len(orders) > MOST_ORDERS:
        raise Refusal(f"{len(orders)} orders in one request, at most {MOST_ORDERS} are taken")
    return orders


def _digest(body: bytes) -> bytes:
    """Of what the JSON says, not of its spaces and the order of its keys."""
    # a number that Python has no float for leaves the body as it is written
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        body = msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    return hashlib.sha256(body).digest()


def _fresh_ids(count: int) -> list[str]:
    now = time.time_ns() // 1_000_000
    return [time_ordered_id(now, secrets.randbits(74)) for _ in range(count)]
