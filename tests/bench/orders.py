"""Made-up orders of known number and sum: as a file's lines, and as the entries of a stream."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import redis

__all__ = ["Expected", "append", "append_one_by_one", "entries", "expected", "write_csv"]

STREAM: Final = "orders"
CUSTOMERS: Final = 50_000
DAYS: Final = 360
HIGHEST: Final = 50_000
PER_TRIP: Final = 20


@dataclass(frozen=True, slots=True)
class Expected:
    """What readers must find."""

    orders: int
    total: Decimal


def expected(count: int) -> Expected:
    return Expected(count, Decimal(sum(_cents(number) for number in range(count))).scaleb(-2))


def write_csv(path: Path, count: int, *, bare_dates: bool = False) -> None:
    """One order a line. bare_dates: `2025-03-01` rather than `2025-03-01T10:20:30Z`."""
    moments = [_moment(number)[: 10 if bare_dates else 20] for number in range(DAYS * 86)]
    with path.open("w") as file:
        file.write("order_id,customer_id,amount,created_at\n")
        for number in range(count):
            cents = _cents(number)
            file.write(
                f"order-{number:09},customer-{number * 31 % CUSTOMERS:05},{cents // 100}.{cents % 100:02},"
                f"{moments[number % len(moments)]}\n"
            )


def entries(count: int, *, per_entry: int = 500) -> Iterator[bytes]:
    """JSON arrays of CloudEvents as a producer of its own would write them: random ids, no `time`."""
    ids = random.Random(20_260_101)
    for first in range(0, count, per_entry):
        events = [
            _event(number, ids.getrandbits(128)) for number in range(first, min(first + per_entry, count))
        ]
        yield f"[{','.join(events)}]".encode()


def append(url: str, documents: list[bytes]) -> float:
    """XADD the documents, pipelined; returns the seconds until the last one was acknowledged."""
    with redis.Redis.from_url(url) as client:
        began = time.monotonic()
        for first in range(0, len(documents), PER_TRIP):
            with client.pipeline(transaction=False) as pipeline:
                for document in documents[first : first + PER_TRIP]:
                    pipeline.xadd(STREAM, {"data": document})
                pipeline.execute()
        return time.monotonic() - began


def append_one_by_one(url: str, documents: Iterable[bytes], *, group: str = "ingestor") -> None:
    """XADD each document once the group has finished the one before it: each is landed by itself."""
    with redis.Redis.from_url(url) as client:
        for document in documents:
            client.xadd(STREAM, {"data": document})
            while not _finished(client, group):
                time.sleep(0.001)


def _finished(client: redis.Redis, group: str) -> bool:
    found = next(each for each in client.xinfo_groups(STREAM) if each["name"].decode() == group)
    return not found["pending"] and not found["lag"]


def _event(number: int, event_id: int) -> str:
    cents = _cents(number)
    return (
        f'{{"specversion":"1.0","id":"{event_id:032x}","source":"urn:bench:million","type":"order.placed",'
        f'"dataschema":"urn:drp:orders:v1","data":{{"order_id":"order-{number:09}",'
        f'"customer_id":"customer-{number * 31 % CUSTOMERS:05}","amount":"{cents // 100}.{cents % 100:02}",'
        f'"created_at":"{_moment(number)}"}}}}'
    )


def _cents(number: int) -> int:
    return number * 7_919 % HIGHEST


def _moment(number: int) -> str:
    day, second = number % DAYS, number * 37 % 86_400
    return (
        f"2025-{day // 30 + 1:02}-{day % 28 + 1:02}T"
        f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
    )
