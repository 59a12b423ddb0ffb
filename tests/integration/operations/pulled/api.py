"""A JSON API on this machine whose answers a test decides, and what of them was published."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

from libs.adapters.bus import Bus
from libs.datasets import Dataset
from libs.operations.pull import Address, Pull
from libs.pipeline.decode import Decoder, raw_copy_columns

__all__ = ["Answer", "Api", "a_pull", "an_order", "landed", "records"]


def an_order(number: int, **changes: object) -> dict[str, object]:
    return {
        "order_id": f"O-{number}",
        "customer_id": "C-1",
        "amount": f"{number}.10",
        "created_at": "2026-01-05T09:30:00Z",
        **changes,
    }


def records(*orders: object) -> bytes:
    return json.dumps({"records": orders, "count": len(orders)}).encode()


@dataclass(frozen=True)
class Answer:
    """status 0 hangs up without a word; says of the body less than it declares if short."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    missing: int = 0


@dataclass
class Api:
    """Gives its answers one after the other, the last one for good; keeps what it was asked."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    url: str = ""
    _serving: set[asyncio.Future[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering = asyncio.ensure_future(self._answer(reader, writer))
        self._serving.add(answering)
        await answering

    async def idle(self) -> None:
        """Every connection is closed."""
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.splitlines()
        self.lines.append(line)
        self.asked.append(dict(each.lower().split(": ", 1) for each in rest if ": " in each))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.status:
            told = [f"HTTP/1.1 {answer.status} x", f"content-length: {len(answer.body) + answer.missing}"]
            told += [f"{name}: {value}" for name, value in answer.headers]
            writer.write(("\r\n".join([*told, "connection: close"]) + "\r\n\r\n").encode() + answer.body)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


def a_pull(bus: Bus, dataset: Dataset, url: str, *, path: str | None = "records", **address: Any) -> Pull:
    return Pull(
        bus=bus, dataset=dataset, address=Address(url=url, records=path, **address), rng=random.Random(1)
    )


async def landed(bus: Bus, dataset: Dataset) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Rows for RAW, and (reason, detail) of what is refused."""
    decoder, names = Decoder(dataset), raw_copy_columns(dataset)
    slots = [
        decoder.decode(entry.data, entry_id=entry.id)
        async for entry in bus.unhandled(dataset.stream, "ingestor")
    ]
    return (
        [dict(zip(names, row, strict=True)) for one in slots for row in one.rows],
        [(refused.reason, refused.detail) for one in slots for refused in one.refused],
    )
