"""A stand-in for Jaeger: the platform's trace store, on Jaeger's ports of a container."""

from __future__ import annotations

import socket
from pathlib import Path

import uvicorn

from libs.runtime.embedded.trace_disk import SpanDisk
from libs.runtime.embedded.trace_store import create_app


def listener(port: int) -> socket.socket:
    return socket.create_server(("0.0.0.0", port))  # noqa: S104 - in a container


if __name__ == "__main__":
    folder = Path("/tmp/traces")  # noqa: S108 - in a container
    folder.mkdir(exist_ok=True)
    server = uvicorn.Server(uvicorn.Config(create_app(SpanDisk(folder)), log_level="warning"))
    server.run(sockets=[listener(4318), listener(16686)])
