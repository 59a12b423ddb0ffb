"""The HTTP side of a service, in the service's own loop: signals and logs stay with the service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from libs.errors import Permanent

__all__ = ["HttpServer"]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves app on host:port (0: a free one) between start() and stop()."""

    def __init__(self, app: ASGIApp, *, host: str, port: int) -> None:
        self._address = (host, port)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="auto",
            timeout_graceful_shutdown=3,
            server_header=False,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None
        self.port = port

    async def start(self) -> None:
        """Returns once connections are taken.

        Raises:
            Permanent: the address is taken, or not ours to take.
        """
        # Its comings and goings are told by the service.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        listener = self._listen()
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise Permanent("the HTTP application did not start")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish the requests under way, three seconds at most."""
        if self._task is not None:
            self._server.should_exit = True
            await asyncio.wait({self._task}, timeout=5)

    def _listen(self) -> socket.socket:
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            raise Permanent(
                f"cannot listen on {host}:{port}", why=error.strerror, fix="another DRP_HTTP_PORT, or 0"
            ) from error
        return listener
