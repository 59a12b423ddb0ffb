"""Orders made up from a seed, some faulty in known numbers, as CloudEvents. Pure: no clock, no chance.

The only code of the platform that knows orders by heart.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

__all__ = [
    "DATASCHEMA",
    "EVENT_TYPE",
    "SOURCE",
    "Envelope",
    "Faults",
    "Made",
    "Order",
    "Orders",
    "key_ids",
    "synthetic_orders",
    "time_ordered_id",
]

SOURCE: Final = "urn:drp:generator"
EVENT_TYPE: Final = "order.placed"
DATASCHEMA: Final = "urn:drp:orders:v1"
REFERRING: Final = frozenset({"duplicate", "conflict", "out_of_order"})
REMEMBERED: Final = 5_000
CUSTOMERS: Final = 20_000
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Order(msgspec.Struct, frozen=True):
    """An event's data. amount is a decimal in text; created_at RFC 3339."""

    order_id: str
    customer_id: str
    amount: str
    created_at: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A CloudEvent around one order."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    data: Order | msgspec.Raw
    dataschema: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The share of events (0..1) with each fault; they exclude each other, together at most 1.

    duplicate: an event sent again as it was. conflict: the identity of an earlier event, another payload.
    late: a new order whose time is days ago. out_of_order: an older version of an order that was sent before.
    malformed: refused by the contract. negative: an amount below zero, which breaks a row rule.
    """

    duplicate: float = 0.0
    conflict: float = 0.0
    late: float = 0.0
    out_of_order: float = 0.0
    malformed: float = 0.0
    negative: float = 0.0

    def __post_init__(self) -> None:
        shares = self.shares()
        if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1:
            raise ValueError(f"shares lie between 0 and 1, and add up to at most 1: {shares}")

    def shares(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Made(msgspec.Struct, frozen=True):
    """An event to publish. kind is `good` or the name of its fault; malformed ones need not be JSON."""

    kind: str
    document: bytes


class Orders:
    """An endless sequence of events.

    After n events exactly round(share × n) of them carry each fault, as far as there was an earlier order for
    it to refer to; `made` counts them. An order is referred to once at most, so that it does not matter in
    which order the events land.

    Args:
        seed: fixes customers, amounts and where the faults are.
        run_id: stands in every id; two runs never share one.
    """

    def __init__(self, seed: int, run_id: str, *, faults: Faults | None = None, source: str = SOURCE) -> None:
        self.run_id = run_id
        self.made: Counter[str] = Counter()
        self._rng = random.Random(seed)  # noqa: S311 - seeded on purpose
        self._shares = (faults or Faults()).shares()
        self._source = source
        self._number = 0
        self._sent: deque[tuple[str, datetime, Order]] = deque(maxlen=REMEMBERED)
        self._makers = {
            "good": self._good,
            "duplicate": self._duplicate,
            "conflict": self._conflict,
            "late": self._late,
            "out_of_order": self._out_of_order,
            "malformed": self._malformed,
            "negative": self._negative,
        }

    def take(self, count: int, *, now: datetime) -> list[Made]:
        """The next events. Their times are now or some microseconds before, in order; late ones are older."""
        kinds = self._kinds(count)
        events = []
        for position in range(count):
            if kinds[position] in REFERRING and not self._sent:
                # an order must be sent before another event can refer to it
                later = next((at for at in range(position, count) if kinds[at] == "good"), position)
                kinds[later], kinds[position] = kinds[position], "good"
            kind = kinds[position]
            events.append(Made(kind, self._makers[kind](now - timedelta(microseconds=count - position))))
            self.made[kind] += 1
        return events

    def _kinds(self, count: int) -> list[str]:
        """What the next events shall be: as many faults as are due, in seeded places."""
        total = self.made.total() + count
        due = {kind: round(share * total) - self.made[kind] for kind, share in self._shares.items()}
        kinds = [kind for kind, number in due.items() for _ in range(max(0, number))][:count]
        kinds += ["good"] * (count - len(kinds))
        self._rng.shuffle(kinds)
        return kinds

    def _good(self, at: datetime) -> bytes:
        order = self._order(at)
        event_id = self._id()
        self._sent.append((event_id, at, order))
        return self._event(event_id, at, order)

    def _duplicate(self, _: datetime) -> bytes:
        return self._event(*self._earlier())

    def _conflict(self, _: datetime) -> bytes:
        event_id, then, order = self._earlier()
        return self._event(event_id, then, msgspec.structs.replace(order, amount=f"1{order.amount}"))

    def _late(self, at: datetime) -> bytes:
        then = at - timedelta(days=self._rng.randint(1, 7))
        return self._event(self._id(), then, self._order(then))

    def _out_of_order(self, _: datetime) -> bytes:
        _id, then, order = self._earlier()
        before = then - timedelta(seconds=self._rng.randint(1, 600))
        return self._event(self._id(), before, msgspec.structs.replace(order, amount=self._amount()))

    def _negative(self, at: datetime) -> bytes:
        order = self._order(at)
        return self._event(self._id(), at, msgspec.structs.replace(order, amount=f"-{order.amount}"))

    def _malformed(self, at: datetime) -> bytes:
        order, event_id = self._order(at), self._id()
        good = self._event(event_id, at, order)
        amount = f'"amount":"{order.amount}"'.encode()
        match self.made["malformed"] % 6:
            case 0:
                return good.replace(b'"customer_id":', b'"customer":', 1)
            case 1:
                return good.replace(amount, amount.replace(b".", b","), 1)
            case 2:
                return good[: len(good) * 2 // 3]
            case 3:
                return good.replace(amount, b'"amount":NaN', 1)
            case 4:
                return self._event(event_id, at, msgspec.structs.replace(order, created_at="yesterday"))
            case _:
                return good.replace(amount, amount[:-1] + b'5"', 1)

    def _earlier(self) -> tuple[str, datetime, Order]:
        place = self._rng.randrange(len(self._sent))
        self._sent.rotate(-place)
        return self._sent.popleft()

    def _order(self, at: datetime) -> Order:
        self._number += 1
        return Order(
            order_id=f"G-{self.run_id}-{self._number:08d}",
            customer_id=_customer(self._rng),
            amount=self._amount(),
            created_at=_text(at),
        )

    def _amount(self) -> str:
        return _amount(self._rng)

    def _id(self) -> str:
        return f"{self.run_id}-{self._number:08d}-{self.made.total():08d}"

    def _event(self, event_id: str, at: datetime, order: Order) -> bytes:
        return msgspec.json.encode(
            Envelope(
                specversion="1.0",
                id=event_id,
                source=self._source,
                type=EVENT_TYPE,
                time=_text(at),
                dataschema=DATASCHEMA,
                data=order,
            )
        )


def synthetic_orders(seed: int, count: int) -> list[Order]:
    """Orders to look at, never published: wholly fixed by the seed, spread over a month."""
    return list(_synthetic(random.Random(seed), seed, count))  # noqa: S311 - seeded on purpose


def _synthetic(rng: random.Random, seed: int, count: int) -> Iterator[Order]:
    for number in range(1, count + 1):
        yield Order(
            order_id=f"S-{seed}-{number:05d}",
            customer_id=_customer(rng),
            amount=_amount(rng),
            created_at=_text(EPOCH + timedelta(seconds=rng.randrange(31 * 86_400))),
        )


def key_ids(key: str, count: int) -> list[str]:
    """The event ids that an idempotency key stands for: a retry makes the same events again."""
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, f"{SOURCE}:key:{key}")
    return [str(uuid.uuid5(namespace, str(position))) for position in range(count)]


def time_ordered_id(milliseconds: int, chance: int) -> str:
    """A UUIDv7 of a Unix time and 74 random bits: neighbours in time are neighbours in an index."""
    number = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | 0b10 << 62
    return str(uuid.UUID(int=number | (chance >> 62 & 0xFFF) << 64 | chance & ((1 << 62) - 1)))


def _customer(rng: random.Random) -> str:
    return f"C-{rng.randrange(CUSTOMERS):05d}"


def _amount(rng: random.Random) -> str:
    cents = min(999_999, max(1, int(rng.lognormvariate(8.2, 0.9))))
    return f"{cents // 100}.{cents % 100:02d}"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
