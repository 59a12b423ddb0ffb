"""Traces of this process, through OpenTelemetry and OTLP/HTTP.

A span is carried between services as its W3C traceparent, a string that stands in events and in Postgres.
Spans work before `setup` and without an endpoint too: they have ids, they are just not sent anywhere.
A collector that is down costs spans, and nothing else: one warning, a bounded queue, short timeouts.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from libs.adapters.logs import LogFormat, configure_logs
from libs.errors import DrpError

if TYPE_CHECKING:
    import requests

__all__ = ["Span", "Telemetry", "current_traceparent", "setup", "span", "trace_id_of"]

QUEUE: Final = 8192
BATCH: Final = 512
EVERY_MS: Final = 500
TIMEOUT: Final = 2.0
SHUTDOWN_WITHIN: Final = 1.8
AGAIN_AFTER: Final = 1.0
"""Seconds in which a collector that was down isn't tried again: spans are dropped at once, a flush doesn't wait."""
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

log = logging.getLogger("drp.telemetry")

Attribute = object
"""Text, a number, a truth value, a list of one of them; None is left out, all else becomes text."""


class Span:
    """A span that is under way."""

    def __init__(self, inner: trace.Span) -> None:
        self._inner = inner
        self._end: datetime | None = None

    @property
    def traceparent(self) -> str:
        """What a child elsewhere names as its parent."""
        return _traceparent(self._inner.get_span_context())

    @property
    def trace_id(self) -> str:
        return f"{self._inner.get_span_context().trace_id:032x}"

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes. Never a payload."""
        self._inner.set_attributes(_attributes(attributes))

    def fail(self, message: str) -> None:
        """Mark the step failed though nothing was raised."""
        self._inner.set_status(Status(StatusCode.ERROR, message))

    def end_at(self, moment: datetime) -> None:
        """End at `moment` rather than when the block is left."""
        self._end = moment

    def _close(self) -> None:
        self._inner.end(None if self._end is None else _nanoseconds(self._end))


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: Mapping[str, Attribute] | None = None,
    start_time: datetime | None = None,
    root: bool = False,
) -> Iterator[Span]:
    """One step, as a span that is current within the block.

    Args:
        parent: traceparent of the step that caused this one; invalid or None means the current span.
        links: traceparents of other traces that belong to it; invalid ones are left out, repeats too.
        start_time: when the step began, if that was earlier.
        root: begin a new trace, whatever is current.

    An exception that leaves the block marks the span failed, with its class and message (the first line,
    unless it is one of the house's own, which hold no payload) and goes on.
    """
    inner = _current.tracer().start_span(
        name,
        context=_context(parent, root=root),
        links=[Link(context) for link in dict.fromkeys(links) if (context := _parse(link)) is not None],
        attributes=_attributes(attributes or {}),
        start_time=None if start_time is None else _nanoseconds(start_time),
    )
    this = Span(inner)
    try:
        with trace.use_span(inner, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield this
    except Exception as error:
        message = _message(error)
        kind = type(error).__qualname__
        inner.add_event("exception", {"exception.type": kind, "exception.message": message})
        inner.set_status(Status(StatusCode.ERROR, f"{kind}: {message}"))
        raise
    finally:
        this._close()


def current_traceparent() -> str | None:
    """The current span's traceparent; None outside of any span."""
    context = trace.get_current_span().get_span_context()
    return _traceparent(context) if context.is_valid else None


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id in a traceparent, 32 hexadecimal digits; None if it is not valid."""
    context = _parse(traceparent)
    return None if context is None else f"{context.trace_id:032x}"


class Telemetry:
    """What `setup` started."""

    def __init__(self, provider: TracerProvider, exporter: _PatientExporter | None) -> None:
        self._provider = provider
        self._exporter = exporter

    def flush(self) -> None:
        """Send what is waiting, now. Blocks up to some seconds."""
        self._provider.force_flush()

    def shutdown(self) -> None:
        """Send what is waiting and stop, within two seconds, whatever the collector does."""
        if self._exporter is None:
            return
        self._exporter.close_within(SHUTDOWN_WITHIN)
        closing = threading.Thread(target=self._provider.shutdown, name="drp-telemetry-shutdown", daemon=True)
        closing.start()
        closing.join(SHUTDOWN_WITHIN)
        if closing.is_alive():
            self._exporter.shutdown()


def setup(
    service: str,
    *,
    endpoint: str | None = None,
    log_format: LogFormat = "auto",
    log_level: str = "INFO",
    instance: str | None = None,
    logs: bool = True,
) -> Telemetry:
    """Start traces and logs of this process. Called again, the newest counts.

    Args:
        service: its name in traces and logs, e.g. `ingestor`.
        endpoint: base URL of an OTLP/HTTP receiver; None sends no span.
        instance: tells replicas apart; default is host and process id.
        logs: False in a process whose logs are another's.
    """
    if logs:
        configure_logs(service, log_format=log_format, level=log_level)
    resource = Resource.create(
        {
            "service.name": service,
            "service.instance.id": instance or f"{socket.gethostname()}-{os.getpid()}",
            "service.version": importlib.metadata.version("data-reliability-platform"),
        }
    )
    # its own exit hook would wait half a minute for a collector that is down
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = None if not endpoint else _PatientExporter(endpoint)
    if exporter is not None:
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=QUEUE,
                max_export_batch_size=BATCH,
                schedule_delay_millis=EVERY_MS,
            )
        )
    _current.provider = provider
    return Telemetry(provider, exporter)


class _Current:
    """The process's tracer: the one of the last setup, or one that sends nothing."""

    provider: TracerProvider | None = None

    def tracer(self) -> trace.Tracer:
        if self.provider is None:
            self.provider = TracerProvider(shutdown_on_exit=False)
        return self.provider.get_tracer("drp")


_current = _Current()


class _FirstWords(logging.Filter):
    """Keeps the first thing that the stock exporter would log of an export, and logs nothing."""

    words = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.words = self.words or record.getMessage()[:300]
        return False


class _PatientExporter(SpanExporter):
    """The stock OTLP/HTTP exporter; says once that its collector is down, and once that it is back."""

    def __init__(self, endpoint: str) -> None:
        # late: a process that sends no traces does not pay for protobuf and requests
        from opentelemetry.exporter.otlp.proto.http import trace_exporter

        self._endpoint = endpoint.rstrip("/").removesuffix("/v1/traces") + "/v1/traces"
        self._inner = trace_exporter.OTLPSpanExporter(
            endpoint=self._endpoint, timeout=TIMEOUT, session=_session(self._endpoint)
        )
        self._said = _FirstWords()
        logger = logging.getLogger(trace_exporter.__name__)
        logger.filters.clear()
        logger.addFilter(self._said)
        logger.setLevel(logging.WARNING)
        self._down = False
        self._again_at = 0.0
        self._deadline: float | None = None

    def close_within(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        now = time.monotonic()
        if self._deadline is not None and (self._down or now > self._deadline):
            return SpanExportResult.FAILURE
        if self._down and now < self._again_at:
            return SpanExportResult.FAILURE
        self._said.words = ""
        result = self._inner.export(spans)
        self._tell(down=result is not SpanExportResult.SUCCESS)
        return result

    def _tell(self, *, down: bool) -> None:
        if down and not self._down:
            log.warning(
                "no traces reach %s: spans are dropped until they do, nothing else waits: %s",
                self._endpoint,
                self._said.words,
            )
        elif self._down and not down:
            log.info("traces reach %s again", self._endpoint)
        self._down = down
        self._again_at = time.monotonic() + AGAIN_AFTER

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _session(endpoint: str) -> requests.Session | None:
    """A session that takes no proxy for a collector on this machine; None = the exporter's own."""
    if urlsplit(endpoint).hostname not in LOOPBACK:
        return None
    import requests

    session = requests.Session()
    session.trust_env = False
    return session


def _parse(traceparent: str | None) -> SpanContext | None:
    found = TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_flags(flags))
    return context if context.is_valid else None


def _flags(text: str) -> TraceFlags:
    return TraceFlags(int(text, 16) & TraceFlags.SAMPLED)


def _traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & TraceFlags.SAMPLED:02x}"


def _context(parent: str | None, *, root: bool) -> Context | None:
    if root:
        return Context()
    remote = _parse(parent)
    return None if remote is None else trace.set_span_in_context(NonRecordingSpan(remote), Context())


def _message(error: BaseException) -> str:
    """First line only of what others say: a driver's or a validator's further lines quote the data."""
    if isinstance(error, DrpError):
        return str(error)[:1000]
    return (str(error).splitlines() or [""])[0][:300]


def _attributes(given: Mapping[str, Attribute]) -> dict[str, str | int | float | bool | list[str]]:
    return {name: _attribute(value) for name, value in given.items() if value is not None}


def _attribute(value: Attribute) -> str | int | float | bool | list[str]:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [str(one) for one in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


def _nanoseconds(moment: datetime) -> int:
    """Since 1970, exact to the microsecond; a naive moment is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
