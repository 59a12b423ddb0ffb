"""One log stream a process, on stderr: JSON lines, or text on a terminal, each with the trace it belongs to.

uvicorn's and FastStream's loggers bring handlers of their own and stop propagating; they are adopted, so that
every line of a process has one shape. A payload never belongs in a log: give ids, counts and reasons.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from opentelemetry import trace
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

__all__ = ["LogFormat", "configure_logs"]

LogFormat = Literal["json", "text", "auto"]

ADOPTED: Final = (
    "faststream",
    "faststream.access.redis",
    "uvicorn",
    "uvicorn.access",
    "uvicorn.asgi",
    "uvicorn.error",
)
QUIET: Final = {
    "uvicorn.access": logging.WARNING,  # a line a probe and scrape would drown the rest
    "aiobotocore": logging.WARNING,
    "botocore": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "great_expectations": logging.WARNING,
    "opentelemetry": logging.CRITICAL,  # it repeats itself for every span it drops; telemetry.py says it once
}


def configure_logs(service: str, *, log_format: LogFormat = "auto", level: str = "INFO") -> None:
    """Send every logger of this process through one handler. Called again, it replaces its own work.

    Args:
        service: stands in every line.
        log_format: `auto` is text where stderr is a terminal, else JSON.
        level: name of the least severe level that is written.
    """
    handler = _StderrHandler()
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler.setFormatter(_TextFormatter(service) if text else _json_formatter(service))
    handler.addFilter(_add_trace)
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _StderrHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in ADOPTED:
        _adopt(logging.getLogger(name))
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(True)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Looks stderr up for every line: it may be replaced after the handler was made."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        raise AttributeError("this handler always writes to sys.stderr")


class _Adopted(logging.Logger):
    """A library's logger whose own handlers and `propagate = False` do not stick."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - the name is logging's
        """Ignored: the root's handler writes these lines."""

    @property
    def propagate(self) -> bool:
        return True

    @propagate.setter
    def propagate(self, _: bool) -> None:
        """Ignored."""


def _adopt(logger: logging.Logger) -> None:
    logger.handlers.clear()
    logger.__class__ = _Adopted


def _add_trace(record: logging.LogRecord) -> bool:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record.trace_id = f"{context.trace_id:032x}"
        record.span_id = f"{context.span_id:016x}"
    return True


def _json_formatter(service: str) -> logging.Formatter:
    return MsgspecFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        static_fields={"service": service},
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],
        timestamp="time",
    )


class _TextFormatter(logging.Formatter):
    """`12:04:05.678 INFO    ingestor drp.batches: closed batch=… trace_id=…`"""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._known = {*RESERVED_ATTRS, "color_message", "span_id"}

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        extra = "".join(
            f" {name}={value}" for name, value in record.__dict__.items() if name not in self._known
        )
        return f"{at} {record.levelname:<7} {self._service} {record.name}: {record.getMessage()}{extra}"
