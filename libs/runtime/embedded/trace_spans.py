"""Between OTLP's protobuf and the JSON that Jaeger's query API answers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from libs.runtime.embedded.trace_disk import KeptSpan, SpanRow

__all__ = ["InvalidSpans", "has_tags", "jaeger_trace", "rows_of"]

KINDS: Final = {
    Span.SPAN_KIND_INTERNAL: "internal",
    Span.SPAN_KIND_SERVER: "server",
    Span.SPAN_KIND_CLIENT: "client",
    Span.SPAN_KIND_PRODUCER: "producer",
    Span.SPAN_KIND_CONSUMER: "consumer",
}

Json = dict[str, Any]


class InvalidSpans(ValueError):
    """The body is no OTLP export request."""


def rows_of(body: bytes) -> list[SpanRow]:
    """The spans of an export request; one without ids is left out.

    Raises:
        InvalidSpans: the body is not such a request.
    """
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise InvalidSpans(str(error)) from error
    return list(_rows(request))


def _rows(request: ExportTraceServiceRequest) -> Iterator[SpanRow]:
    for group in request.resource_spans:
        service = _service(group.resource)
        process = group.resource.SerializeToString(deterministic=True)
        for scope in group.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) != 16 or len(span.span_id) != 8:
                    continue
                start_us = span.start_time_unix_nano // 1000
                yield SpanRow(
                    trace_id=span.trace_id,
                    span_id=span.span_id,
                    service=service,
                    process=process,
                    operation=span.name,
                    start_us=start_us,
                    duration_us=max(0, span.end_time_unix_nano // 1000 - start_us),
                    document=span.SerializeToString(),
                )


def jaeger_trace(
    trace_id: bytes, spans: Sequence[KeptSpan], processes: Mapping[int, tuple[str, bytes]]
) -> Json:
    """A trace in Jaeger's shape: spans with references, typed tags and logs, and their processes."""
    names = {process: f"p{number}" for number, process in enumerate(processes, start=1)}
    return {
        "traceID": trace_id.hex(),
        "spans": [_span(Span.FromString(kept.document), names[kept.process]) for kept in spans],
        "processes": {
            names[process]: {
                "serviceName": service,
                "tags": _tags(a for a in Resource.FromString(document).attributes if a.key != "service.name"),
            }
            for process, (service, document) in processes.items()
        },
        "warnings": None,
    }


def has_tags(document: bytes, wanted: Mapping[str, str]) -> bool:
    """The span carries every wanted tag; values are compared as text, as Jaeger does."""
    if not wanted:
        return True
    found = {tag["key"]: _text(tag["value"]) for tag in _all_tags(Span.FromString(document))}
    return all(found.get(key) == value for key, value in wanted.items())


def _span(span: Span, process: str) -> Json:
    start_us = span.start_time_unix_nano // 1000
    return {
        "traceID": span.trace_id.hex(),
        "spanID": span.span_id.hex(),
        "flags": 1,
        "operationName": span.name,
        "references": _references(span),
        "startTime": start_us,
        "duration": max(0, span.end_time_unix_nano // 1000 - start_us),
        "tags": _all_tags(span),
        "logs": [_log(event) for event in span.events],
        "processID": process,
        "warnings": None,
    }


def _references(span: Span) -> list[Json]:
    """The parent as CHILD_OF, each link as FOLLOWS_FROM."""
    parents = [("CHILD_OF", span.trace_id, span.parent_span_id)] if span.parent_span_id else []
    links = [("FOLLOWS_FROM", link.trace_id, link.span_id) for link in span.links]
    return [
        {"refType": kind, "traceID": trace_id.hex(), "spanID": span_id.hex()}
        for kind, trace_id, span_id in [*parents, *links]
    ]


def _all_tags(span: Span) -> list[Json]:
    tags = _tags(span.attributes)
    if span.kind in KINDS:
        tags.append(_tag("span.kind", "string", KINDS[span.kind]))
    if span.status.code == Status.STATUS_CODE_OK:
        tags.append(_tag("otel.status_code", "string", "OK"))
    elif span.status.code == Status.STATUS_CODE_ERROR:
        tags.append(_tag("otel.status_code", "string", "ERROR"))
        tags.append(_tag("error", "bool", True))
    if span.status.message:
        tags.append(_tag("otel.status_description", "string", span.status.message))
    return tags


def _log(event: Span.Event) -> Json:
    fields = [_tag("event", "string", event.name), *_tags(event.attributes)]
    return {"timestamp": event.time_unix_nano // 1000, "fields": fields}


def _tags(attributes: Iterable[KeyValue]) -> list[Json]:
    return [_tag(attribute.key, *_typed(attribute.value)) for attribute in attributes]


def _tag(key: str, kind: str, value: object) -> Json:
    return {"key": key, "type": kind, "value": value}


def _typed(value: AnyValue) -> tuple[str, object]:
    match value.WhichOneof("value"):
        case "bool_value":
            return "bool", value.bool_value
        case "int_value":
            return "int64", value.int_value
        case "double_value":
            return "float64", value.double_value
        case "bytes_value":
            return "binary", base64.b64encode(value.bytes_value).decode()
        case "array_value":
            return "string", "[" + ", ".join(_text(_typed(one)[1]) for one in value.array_value.values) + "]"
        case "kvlist_value":
            inner = (f"{one.key}: {_text(_typed(one.value)[1])}" for one in value.kvlist_value.values)
            return "string", "{" + ", ".join(inner) + "}"
        case _:
            return "string", value.string_value


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _service(resource: Resource) -> str:
    for attribute in resource.attributes:
        if attribute.key == "service.name":
            return str(attribute.value.string_value)
    return "unknown"
