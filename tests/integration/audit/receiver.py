"""A webhook's receiver: a real HTTP server on this machine that answers what it is told to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Receiver"]


@dataclass(frozen=True, slots=True)
class Answer:
    """status 0 hangs up without a word."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Receiver:
    """Answers 204, or the next of `answers` while there are some."""

    answers: list[Answer] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def start(self) -> str:
        """The address to post to."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/hook"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append(json.loads(body))
        self.keys.append(headers["idempotency-key"])
        answer = self.answers.pop(0) if self.answers else Answer(204)
        if answer.status:
            lines = [f"HTTP/1.1 {answer.status} x", "content-length: 0", "connection: close"]
            lines += [f"{name}: {value}" for name, value in answer.headers]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
        writer.close()
        await writer.wait_closed()
