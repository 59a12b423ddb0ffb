"""The embedded trace store: takes spans over OTLP/HTTP, keeps them on disk, answers Jaeger's query API.

    python -m libs.runtime.embedded.trace_store --folder F --port P [--host 127.0.0.1]

POST /v1/traces (protobuf, gzip too) · GET /api/services · /api/services/{service}/operations ·
/api/operations?service= · /api/traces?service=&operation=&tags=&limit=&start=&end=&lookback=&minDuration= ·
/api/traces?traceID=&traceID= · /api/traces/{id} · /livez · /readyz
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sqlite3
import time
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.runtime.embedded.trace_disk import Search, SpanDisk
from libs.runtime.embedded.trace_spans import InvalidSpans, has_tags, jaeger_trace, rows_of

__all__ = ["create_app", "main"]

BODY_LIMIT: Final = 32 * 1024 * 1024
INFLATED_LIMIT: Final = 64 * 1024 * 1024
PROTOBUF: Final = "application/x-protobuf"
UNITS: Final = {"ns": 0.001, "us": 1, "µs": 1, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6, "d": 86_400e6}
TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{1,32}")

T = TypeVar("T")


class Refused(Exception):
    """The request is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def create_app(disk: SpanDisk) -> Starlette:
    """The application over an open disk, which it closes at its end."""
    store = _TraceStore(disk)
    return Starlette(
        routes=[
            Route("/v1/traces", store.take, methods=["POST"]),
            Route("/api/services", store.services),
            Route("/api/services/{service:path}/operations", store.operations),
            Route("/api/operations", store.operations_of),
            Route("/api/traces", store.search),
            Route("/api/traces/{trace_id}", store.trace),
            Route("/livez", store.alive),
            Route("/readyz", store.ready),
        ],
        exception_handlers={Refused: _refused, sqlite3.Error: _unavailable},
        lifespan=store.lifespan,
    )


class _TraceStore:
    """The handlers. Disk work happens in two threads, one that writes and one that reads."""

    def __init__(self, disk: SpanDisk) -> None:
        self._disk = disk
        self._writing = ThreadPoolExecutor(1, "traces-write")
        self._reading = ThreadPoolExecutor(1, "traces-read")

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self._writing.shutdown()
        self._reading.shutdown()
        self._disk.close()

    async def take(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != PROTOBUF:
            raise Refused(415, f"spans are taken as {PROTOBUF}, not as {kind or 'nothing named'}")
        body = _inflated(await _body(request), request.headers.get("content-encoding", "identity"))
        await asyncio.get_running_loop().run_in_executor(self._writing, self._keep, body)
        return Response(ExportTraceServiceResponse().SerializeToString(), media_type=PROTOBUF)

    def _keep(self, body: bytes) -> None:
        try:
            rows = rows_of(body)
        except InvalidSpans as error:
            raise Refused(400, f"not an OTLP export request: {error}") from error
        if rows:
            self._disk.add(rows)

    async def services(self, _: Request) -> Response:
        return _answer(await self._read(self._disk.services))

    async def operations(self, request: Request) -> Response:
        service = request.path_params["service"]
        return _answer(await self._read(lambda: self._disk.operations(service)))

    async def operations_of(self, request: Request) -> Response:
        names = await self._read(lambda: self._disk.operations(_service(request)))
        return _answer([{"name": name, "spanKind": ""} for name in names])

    async def search(self, request: Request) -> Response:
        ids = request.query_params.getlist("traceID")
        if ids:
            wanted = [_trace_id(text) for text in ids]
            return _answer(await self._read(lambda: self._traces(wanted)))
        search, tags, limit = _search(request), _wanted_tags(request), _number(request, "limit", 100)
        return _answer(await self._read(lambda: self._traces(self._found(search, tags, limit))))

    async def trace(self, request: Request) -> Response:
        trace_id = _trace_id(request.path_params["trace_id"])
        traces = await self._read(lambda: self._traces([trace_id]))
        if not traces:
            raise Refused(404, "trace not found")
        return _answer(traces)

    async def alive(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        return _json({"status": "ok", "pid": os.getpid(), "spans": await self._read(self._disk.count)})

    async def _read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    def _found(self, search: Search, tags: dict[str, str], limit: int) -> list[bytes]:
        found: dict[bytes, None] = {}
        for trace_id, document in self._disk.find(search):
            if len(found) >= limit:
                break
            if trace_id not in found and has_tags(document, tags):
                found[trace_id] = None
        return list(found)

    def _traces(self, ids: list[bytes]) -> list[dict[str, Any]]:
        kept = {trace_id: self._disk.spans(trace_id) for trace_id in ids}
        return [
            jaeger_trace(trace_id, spans, self._disk.processes(dict.fromkeys(one.process for one in spans)))
            for trace_id, spans in kept.items()
            if spans
        ]


async def _body(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > BODY_LIMIT:
            raise Refused(413, f"a body is at most {BODY_LIMIT} bytes")
    return bytes(parts)


def _inflated(body: bytes, encoding: str) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise Refused(415, f"content-encoding {encoding} is not known here: gzip, deflate or none")
    inflater = zlib.decompressobj(47)  # gzip or zlib, as the header says
    try:
        inflated = inflater.decompress(body, INFLATED_LIMIT)
    except zlib.error as error:
        raise Refused(400, f"not {encoding}: {error}") from error
    if inflater.unconsumed_tail:
        raise Refused(413, f"a body inflates to at most {INFLATED_LIMIT} bytes")
    return inflated


def _search(request: Request) -> Search:
    now_us = time.time_ns() // 1000
    end_us = _number(request, "end", now_us)
    lookback = _duration(request, "lookback") or int(UNITS["d"] * 2)
    return Search(
        service=_service(request),
        operation=request.query_params.get("operation") or None,
        start_us=_number(request, "start", end_us - lookback),
        end_us=end_us,
        min_duration_us=_duration(request, "minDuration") or 0,
        max_duration_us=_duration(request, "maxDuration"),
    )


def _service(request: Request) -> str:
    service = request.query_params.get("service")
    if not service:
        raise Refused(400, "parameter 'service' is required")
    return service


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if not text:
        return default
    try:
        return min(int(text), 2**62)
    except ValueError:
        raise Refused(400, f"parameter '{name}' is not a number: {text[:40]!r}") from None


def _duration(request: Request, name: str) -> int | None:
    """Microseconds of e.g. 1h30m or 1.2ms."""
    text = request.query_params.get(name)
    if not text or text == "custom":
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)", text)
    if "".join(number + unit for number, unit in parts) != text:
        raise Refused(400, f"parameter '{name}' is not a duration: {text[:40]!r}")
    return min(int(sum(float(number) * UNITS[unit] for number, unit in parts)), 2**62)


def _wanted_tags(request: Request) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for document in request.query_params.getlist("tags"):
        try:
            wanted |= msgspec.json.decode(document, type=dict[str, str])
        except msgspec.MsgspecError as error:
            raise Refused(400, f'malformed \'tags\' parameter, want {{"key":"value"}}: {error}') from error
    for pair in request.query_params.getlist("tag"):
        key, colon, value = pair.partition(":")
        if not colon:
            raise Refused(400, f"malformed 'tag' parameter, want key:value: {pair[:40]!r}")
        wanted[key] = value
    return wanted


def _trace_id(text: str) -> bytes:
    if not TRACE_ID.fullmatch(text):
        raise Refused(400, f"not a trace id: {text[:40]!r}")
    return bytes.fromhex(text.rjust(32, "0"))


def _answer(data: list[Any]) -> Response:
    return _json({"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None})


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, Refused) else 500
    return _failure(status, str(error))


async def _unavailable(_: Request, error: Exception) -> Response:
    return _failure(503, f"the disk of the trace store: {error}")


def _failure(status: int, message: str) -> Response:
    errors = [{"code": status, "msg": message}]
    return _json({"data": None, "total": 0, "limit": 0, "offset": 0, "errors": errors}, status)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="The embedded trace store.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--max-age", type=float, default=7 * 86_400, help="seconds for which a span is kept")
    parser.add_argument("--max-spans", type=int, default=1_000_000)
    given = parser.parse_args()
    disk = SpanDisk(given.folder, max_age=given.max_age, max_spans=given.max_spans)
    uvicorn.run(
        create_app(disk),
        host=given.host,
        port=given.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
