"""A TCP proxy in front of a server that can lose replies, or requests, as a network does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any
from urllib.parse import urlsplit

__all__ = ["LossyProxy"]


class LossyProxy:
    """Passes everything on, but for the next `lose_replies` replies: the server acted, nobody hears of it.

    Args:
        target: the server's URL.
        bound: a socket to listen on; one of its own if left out.
    """

    def __init__(self, target: str, bound: socket.socket | None = None) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._bound = bound
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.lose_replies = 0
        self.lost = 0

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> LossyProxy:
        where: dict[str, Any] = {"sock": self._bound} if self._bound else {"host": "127.0.0.1", "port": 0}
        self._server = await asyncio.start_server(self._serve, **where)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, onward = await asyncio.open_connection(*self._target)
        self._open |= {writer, onward}
        there = asyncio.create_task(_pass_on(reader, onward))
        with contextlib.suppress(OSError):
            while piece := await upstream.read(64 * 1024):
                if self.lose_replies and not piece.startswith(b"HTTP/1.1 100"):
                    self.lose_replies -= 1
                    self.lost += 1
                    break
                writer.write(piece)
                await writer.drain()
        there.cancel()
        writer.close()
        onward.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(64 * 1024):
            writer.write(piece)
            await writer.drain()
