"""The trace of a batch as a waterfall, read through Jaeger's query API (ours, or a Jaeger's).

A batch's steps usually stand in one trace. Where several batches became one generation, that goes on in the
oldest batch's trace: the others find it through their generations. Links lead out to the producers.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from libs.adapters.postgres import Postgres
from libs.adapters.telemetry import trace_id_of
from libs.errors import Permanent, Transient

if TYPE_CHECKING:
    import httpx
    from rich.console import RenderableType

__all__ = ["Step", "TraceSpan", "Waterfall", "batch_trace", "fetch_traces", "rendered", "waterfall"]

LINKED_AT_MOST: Final = 32
LINK_DEPTH: Final = 3
AT_ONCE: Final = 100
"""Traces that are asked for with one address: its length has a limit on the way."""
BAR: Final = 28
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

_TRACES_OF_BATCH: Final = """
-- one row per traceparent: the batch's own, then those of the generations that applied it
SELECT traceparent FROM (
    SELECT traceparent, 0 AS rank FROM ops.batches WHERE id = $1
    UNION ALL
    SELECT g.traceparent, g.number FROM ops.generation_batches gb
    JOIN ops.generations g ON g.number = gb.generation WHERE gb.batch_id = $1
) AS found WHERE traceparent IS NOT NULL ORDER BY rank
"""


class TraceSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One span. started in UTC, duration in seconds; error is its message, None if it did not fail."""

    trace_id: str
    span_id: str
    parent: str | None
    service: str
    name: str
    started: datetime
    duration: float
    error: str | None
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, str | int | float | bool]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the waterfall. offset (seconds) counts from the first step of the batch; a linked step, the
    producer's say, may have happened before: then it is negative."""

    depth: int
    offset: float
    duration: float
    service: str
    name: str
    error: str | None
    linked: bool
    trace_id: str
    span_id: str
    attributes: dict[str, str | int | float | bool]


class Waterfall(msgspec.Struct, frozen=True, kw_only=True):
    """traces: the ids asked for, the batch's own first. missing: those of them, or of the linked ones, that
    the store does not know (not sent yet, too old, or another's). duration: seconds, first to last step."""

    traces: list[str]
    missing: list[str]
    started: datetime | None
    duration: float
    steps: list[Step]


async def batch_trace(postgres: Postgres, traces_url: str | None, batch_id: uuid.UUID) -> Waterfall:
    """The waterfall of a batch: its own trace, those of its generations, and what they link to.

    Raises:
        Permanent: no trace store is set, or the batch has no trace yet.
        Transient: the trace store does not answer.
    """
    if not traces_url:
        raise Permanent("there is no trace store to ask", fix="set DRP_TRACES_URL to a Jaeger's query URL")
    rows = await postgres.fetch(_TRACES_OF_BATCH, batch_id)
    ids = list(dict.fromkeys(found for row in rows if (found := trace_id_of(row["traceparent"])) is not None))
    if not ids:
        raise Permanent(
            f"batch {batch_id} has no trace yet",
            why="a batch gets its trace when it is closed",
            fix=f"drp batches wait {batch_id}",
        )
    async with _client(traces_url) as client:
        return await _gathered(client, ids)


async def fetch_traces(traces_url: str, ids: Sequence[str]) -> dict[str, list[TraceSpan]]:
    """Each trace's spans in order of their start; none where the store does not know it.

    Raises:
        Transient: the trace store does not answer.
    """
    async with _client(traces_url) as client:
        return await _fetched(client, ids)


def waterfall(
    ids: Sequence[str], traces: dict[str, list[TraceSpan]], missing: Iterable[str] = ()
) -> Waterfall:
    """Order spans into lines: each trace asked for as a tree, below it what its spans link to."""
    own = [one for trace_id in ids for one in traces.get(trace_id, [])]
    started = min((one.started for one in own), default=None)
    steps: list[Step] = []
    shown: set[str] = set()
    for trace_id in ids:
        steps += _tree(traces.get(trace_id, []), started)
        shown.update(one.span_id for one in traces.get(trace_id, []))
    steps += _linked(own, traces, shown, started)
    ended = max((one.started + timedelta(seconds=one.duration) for one in own), default=started)
    duration = 0.0 if started is None or ended is None else (ended - started).total_seconds()
    return Waterfall(
        traces=list(ids), missing=sorted(missing), started=started, duration=duration, steps=steps
    )


def rendered(this: Waterfall) -> RenderableType:
    """The waterfall as text: when, how long, who, what, and a bar along the batch's time."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("at", "took"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("service", "step", ""):
        table.add_column(name, no_wrap=True)
    for step in this.steps:
        name = "  " * step.depth + ("↗ " if step.linked else "") + step.name
        style = "red" if step.error else "dim" if step.linked else ""
        bar = "" if step.linked else _bar(step, this.duration)
        cells = (f"{step.offset:+.3f} s", _duration(step.duration), step.service, name, bar)
        table.add_row(*(Text(cell) for cell in cells), style=style)
        if step.error:
            table.add_row("", "", "", Text("  " * (step.depth + 1) + step.error), "", style="red")
    said = [f"trace {' '.join(this.traces)}", f"{len(this.steps)} steps in {_duration(this.duration)}"]
    if this.missing:
        said.append(f"not in the store: {' '.join(this.missing)}")
    return Group(table, *(Text(line, style="dim") for line in said))


async def _gathered(client: httpx.AsyncClient, ids: Sequence[str]) -> Waterfall:
    """Fetch the traces, then what they link to, a few links deep."""
    traces: dict[str, list[TraceSpan]] = {}
    wanted = list(ids)
    for _ in range(LINK_DEPTH + 1):
        fetched = await _fetched(client, wanted)
        traces |= fetched
        links = dict.fromkeys(link for spans in fetched.values() for one in spans for link, _ in one.links)
        wanted = [link for link in links if link not in traces][: LINKED_AT_MOST + len(ids) - len(traces)]
        if not wanted:
            break
    return waterfall(ids, traces, [trace_id for trace_id, spans in traces.items() if not spans])


def _tree(spans: Sequence[TraceSpan], started: datetime | None) -> list[Step]:
    """Depth first, children in order of their start; a span whose parent isn't there stands at the left."""
    known = {one.span_id for one in spans}
    children: dict[str | None, list[TraceSpan]] = {}
    for one in sorted(spans, key=lambda span: (span.started, span.span_id)):
        children.setdefault(one.parent if one.parent in known else None, []).append(one)
    lines: list[Step] = []
    waiting = [(one, 0) for one in reversed(children.get(None, []))]
    while waiting:
        one, depth = waiting.pop()
        lines.append(_step(one, depth, started))
        waiting += [(child, depth + 1) for child in reversed(children.get(one.span_id, []))]
    return lines


def _linked(
    own: Sequence[TraceSpan], traces: dict[str, list[TraceSpan]], shown: set[str], started: datetime | None
) -> list[Step]:
    """The spans that links lead to, and what those link to, once each."""
    lines: list[Step] = []
    waiting = [(link, 0) for one in own for link in one.links]
    while waiting:
        (trace_id, span_id), depth = waiting.pop(0)
        found = next((one for one in traces.get(trace_id, []) if one.span_id == span_id), None)
        if found is None or span_id in shown:
            continue
        shown.add(span_id)
        lines.append(_step(found, depth, started, linked=True))
        waiting += [(link, depth + 1) for link in found.links]
    return lines


def _step(one: TraceSpan, depth: int, started: datetime | None, *, linked: bool = False) -> Step:
    return Step(
        depth=depth,
        offset=0.0 if started is None else (one.started - started).total_seconds(),
        duration=one.duration,
        service=one.service,
        name=one.name,
        error=one.error,
        linked=linked,
        trace_id=one.trace_id,
        span_id=one.span_id,
        attributes=one.attributes,
    )


def _bar(step: Step, whole: float) -> str:
    if whole <= 0:
        return "█"
    left = min(BAR - 1, int(BAR * step.offset / whole))
    return " " * left + "█" * max(1, min(BAR - left, round(BAR * step.duration / whole)))


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _client(traces_url: str) -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(
        base_url=traces_url.rstrip("/"),
        timeout=10,
        trust_env=urlsplit(traces_url).hostname not in LOOPBACK,  # no proxy leads to this machine
        verify=_trusted(),
    )


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted: read once, it takes longer than the answers."""
    import httpx

    return httpx.create_ssl_context()


async def _fetched(client: httpx.AsyncClient, ids: Sequence[str]) -> dict[str, list[TraceSpan]]:
    found: dict[str, list[TraceSpan]] = {}
    for first in range(0, len(ids), AT_ONCE):
        found |= await _asked(client, ids[first : first + AT_ONCE])
    return {trace_id: found.get(trace_id.zfill(32), []) for trace_id in ids}


async def _asked(client: httpx.AsyncClient, ids: Sequence[str]) -> dict[str, list[TraceSpan]]:
    """One question: Jaeger takes `traceID` as often as it is given, and leaves out what it lacks. Without a start some
    of its stores leave out what is older than two days."""
    import httpx

    try:
        answer = await client.get("/api/traces", params={"traceID": list(ids), "start": 0})
    except httpx.TransportError as error:
        why = str(error) or type(error).__name__
        raise Transient(f"the trace store at {client.base_url} does not answer", why=why) from error
    if answer.status_code != httpx.codes.OK:
        raise Transient(f"the trace store at {client.base_url} answered {answer.status_code}")
    try:
        document = msgspec.json.decode(answer.content)
        return {one["traceID"].zfill(32): _read(one) for one in document["data"] or []}
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise Permanent(
            f"{client.base_url} does not speak Jaeger's query API",
            why=f"{type(error).__name__}: {error}",
            fix="check DRP_TRACES_URL",
        ) from error


def _read(trace: dict[str, Any]) -> list[TraceSpan]:
    processes = {key: process["serviceName"] for key, process in trace["processes"].items()}
    spans = [_span(one, processes) for one in trace["spans"]]
    return sorted(spans, key=lambda one: (one.started, one.span_id))


def _span(one: dict[str, Any], processes: dict[str, str]) -> TraceSpan:
    tags = {tag["key"]: tag["value"] for tag in one.get("tags") or []}
    parent = None
    links = []
    for reference in one.get("references") or []:
        if reference["refType"] == "CHILD_OF" and reference["traceID"] == one["traceID"] and parent is None:
            parent = reference["spanID"]
        else:
            links.append((reference["traceID"], reference["spanID"]))
    failed = tags.get("error") in (True, "true")
    return TraceSpan(
        trace_id=one["traceID"],
        span_id=one["spanID"],
        parent=parent,
        service=processes.get(one["processID"], "unknown"),
        name=one["operationName"],
        started=datetime.fromisoformat("1970-01-01T00:00:00+00:00")
        + timedelta(microseconds=one["startTime"]),
        duration=one["duration"] / 1e6,
        error=str(tags.get("otel.status_description") or "failed") if failed else None,
        links=tuple(links),
        attributes=tags,
    )
