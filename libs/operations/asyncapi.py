"""The streams as an AsyncAPI document: what a producer may send, and what the pipeline tells of its work.

Everything in it comes from where the services take it: the datasets' contracts, the pipeline's events, the
streams and their groups, the decoder's limits.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from libs.contracts.events import EVENT_TYPES, CloudEvent, PipelineEvent
from libs.contracts.streams import DATASET_GROUPS, GROUPS, STREAMS
from libs.datasets import Column, ColumnType, Dataset, RowRule
from libs.datasets.records import BIGINT_MAX, BIGINT_MIN
from libs.pipeline.refusals import (
    MAX_ENTRY_BYTES,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    MAX_IDENTITY_BYTES,
    ORIGINS,
)

__all__ = ["asyncapi", "asyncapi_yaml"]

Schema = dict[str, Any]

_ABOUT: Final = f"""\
Streams of Redis. An entry has the field `data`, which holds JSON: the payload as it is described here. It may have
the field `traceparent` beside it, described here as a header. Any client can write one: XADD orders * data '{{…}}'.
The reply to XADD is the acknowledgement: from then on the platform accounts for each event.

An event has at most {MAX_EVENT_BYTES:,} bytes, an entry {MAX_ENTRY_BYTES:,}. An event that its schema does not take is
quarantined with a reason (drp quarantine ls), and its neighbours in the entry land. Decimals are text or numbers, read
exactly and never rounded. Timestamps are RFC 3339; without an offset they are UTC, a bare date is its midnight.

x-consumer-groups are those that read a stream. x-row-rules are judged when an event has landed: tolerance is the share
of the new rows that may break the rule and are rejected; beyond it the gate keeps the batch back.
"""
_DECIMAL: Final = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_TEXT: Final = {"type": "string", "minLength": 1}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_HEADERS: Final = {
    "type": "object",
    "properties": {
        "traceparent": {
            "type": "string",
            "description": "W3C trace context of the producer's span: the batch's trace links to it.",
        }
    },
}


def asyncapi(datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of these datasets' streams and the pipeline's own, as plain JSON values."""
    streams = sorted(GROUPS)
    names = {stream: stream.replace(".", "_") for stream in streams}
    told = {stream: [event for event, where in STREAMS.items() if where == stream] for stream in streams}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Data Reliability Platform",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"redis": _server()},
        "channels": {
            **{name: _dataset_channel(dataset) for name, dataset in datasets.items()},
            **{names[stream]: _pipeline_channel(stream, told[stream]) for stream in streams},
        },
        "operations": {
            **{f"receive_{name}": _operation("receive", name, [name]) for name in datasets},
            **{
                f"send_{names[stream]}": _operation(
                    "send", names[stream], [event.__name__ for event in told[stream]]
                )
                for stream in streams
            },
        },
        "components": {
            "messages": {
                **{name: _dataset_message(dataset) for name, dataset in datasets.items()},
                **{event.__name__: _pipeline_message(event) for event in EVENT_TYPES.values()},
            },
            "schemas": _schemas(datasets.values()),
        },
    }


def asyncapi_yaml(document: Mapping[str, Any]) -> str:
    """The document as YAML: paragraphs are blocks, nothing else is folded."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter
    from ruamel.yaml.scalarstring import walk_tree

    class Representer(RoundTripRepresenter):
        """Writes a null as one, not as nothing."""

    Representer.add_representer(
        type(None), lambda it, _: it.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    copy = msgspec.json.decode(msgspec.json.encode(document))
    walk_tree(copy)
    yaml, text = YAML(), io.StringIO()
    yaml.Representer = Representer
    yaml.width = 4096
    yaml.dump(copy, text)
    return text.getvalue()


def _server() -> Schema:
    return {
        "host": "{host}",
        "protocol": "redis",
        "description": "`drp env` prints its URL. An acknowledgement means what it says under `appendfsync "
        "always` and `noeviction`: `drp doctor` looks.",
        "variables": {"host": {"default": "localhost:6379", "description": "Host and port."}},
    }


def _dataset_channel(dataset: Dataset) -> Schema:
    return {
        "address": dataset.stream,
        "title": dataset.name,
        "description": f"Events of the dataset `{dataset.name}`, from any producer; at least once, in any order.",
        "servers": [_ref("servers", "redis")],
        "messages": {dataset.name: _ref("components/messages", dataset.name)},
        "x-consumer-groups": list(DATASET_GROUPS),
    }


def _pipeline_channel(stream: str, events: Sequence[type[PipelineEvent]]) -> Schema:
    return {
        "address": stream,
        "description": "What the pipeline did, one event an entry; at least once: the same fact has the same id.",
        "servers": [_ref("servers", "redis")],
        "messages": {event.__name__: _ref("components/messages", event.__name__) for event in events},
        "x-consumer-groups": list(GROUPS[stream]),
    }


def _operation(action: str, channel: str, messages: Sequence[str]) -> Schema:
    return {
        "action": action,
        "channel": _ref("channels", channel),
        "messages": [_ref(f"channels/{channel}/messages", message) for message in messages],
    }


def _dataset_message(dataset: Dataset) -> Schema:
    event = _ref("components/schemas", f"{dataset.name}_event")
    return {
        "title": f"One event of {dataset.name}, or up to {MAX_EVENTS:,} of them in an array",
        "headers": _HEADERS,
        "payload": {
            "oneOf": [event, {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_EVENTS}]
        },
    }


def _pipeline_message(event: type[PipelineEvent]) -> Schema:
    return {
        "name": event.type,
        "title": event.type,
        "description": _one_line(event.__doc__),
        "payload": {
            "allOf": [
                _ref("components/schemas", CloudEvent.__name__),
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": event.type},
                        "data": _ref("components/schemas", event.__name__),
                    },
                },
            ]
        },
    }


def _schemas(datasets: Iterable[Dataset]) -> dict[str, Schema]:
    schemas: dict[str, Schema] = {}
    for dataset in datasets:
        schemas[f"{dataset.name}_event"] = _event_schema(dataset)
        schemas[f"{dataset.name}_data"] = _data_schema(dataset)
    told: Sequence[type] = (CloudEvent, *EVENT_TYPES.values())
    _, found = msgspec.json.schema_components(told, ref_template="#/components/schemas/{name}")
    for name, schema in found.items():
        if "description" in schema:
            schema["description"] = _one_line(schema["description"])
        schemas[name] = schema
    return schemas


def _event_schema(dataset: Dataset) -> Schema:
    """The envelope: CloudEvents 1.0, structured JSON."""
    return {
        "type": "object",
        "description": "A CloudEvent. Its identity is source and id: sent again, it counts as a duplicate. "
        f"Source and id have at most {MAX_IDENTITY_BYTES:,} bytes together. Extension attributes are kept.",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**_TEXT, "description": "Unique within the source, the same whenever it is sent again."},
            "source": {**_TEXT, "description": "Who says so, a URI."},
            "type": {**_TEXT, "description": "What happened, in the past tense."},
            "time": {
                **_MAYBE_TEXT,
                "format": "date-time",
                "description": f"When it happened. Of the events with the same {dataset.key.field} the latest counts. "
                "Left out, it is the time of the stream's entry.",
            },
            "subject": dict(_MAYBE_TEXT),
            "dataschema": {
                "enum": [dataset.dataschema, None],
                "description": "The contract that the producer keeps; another version is refused.",
            },
            "datacontenttype": {"description": "Kept; data is JSON whatever it says."},
            "traceparent": {
                **_MAYBE_TEXT,
                "description": "W3C trace context of the producer's span, as in the entry's field, for this event.",
            },
            "drporigin": {
                "enum": [*ORIGINS, None],
                "description": f"`{ORIGINS[0]}` if it is left out. Freshness is asked of live events only.",
            },
            "data": _ref("components/schemas", f"{dataset.name}_data"),
        },
    }


def _data_schema(dataset: Dataset) -> Schema:
    return {
        "type": "object",
        "title": f"{dataset.name} {dataset.version}",
        "description": f"{dataset.description or dataset.name} Further fields are kept with it.",
        "required": [column.field for column in dataset.columns if column.required],
        "properties": {column.field: _column_schema(dataset, column) for column in dataset.columns},
    }


def _column_schema(dataset: Dataset, column: Column) -> Schema:
    schema = _value_schema(column)
    if not column.required:
        schema["type"] = [*([kind] if isinstance(kind := schema["type"], str) else kind), "null"]
    if column.description:
        schema["description"] = column.description
    rules = [rule for rule in dataset.row_rules if rule.column == column]
    if rules:
        schema["x-row-rules"] = [_rule(rule) for rule in rules]
    return schema


def _rule(rule: RowRule) -> Schema:
    given = rule.expectation.kwargs.items()
    bounds = {name: value for name, value in given if name != "column" and value is not None}
    return {
        "name": rule.name,
        **({"description": rule.description} if rule.description else {}),
        "expectation": rule.expectation.type,
        **({"arguments": msgspec.to_builtins(bounds)} if bounds else {}),
        "tolerance": rule.tolerance,
    }


def _value_schema(column: Column) -> Schema:
    match column.type:
        case ColumnType.NUMBER:
            precision, scale = column.precision or 0, column.scale or 0
            bound = 10 ** (precision - scale)
            return {
                "title": f"at most {precision - scale} digits before the point and {scale} after it",
                "type": ["string", "number"],
                "pattern": _DECIMAL,
                "exclusiveMinimum": -bound,
                "exclusiveMaximum": bound,
            }
        case ColumnType.INTEGER:
            return {"type": "integer", "minimum": BIGINT_MIN, "maximum": BIGINT_MAX}
        case ColumnType.DATE:
            return {"type": "string", "format": "date"}
        case ColumnType.TIMESTAMP:
            return {"type": "string", "format": "date-time"}
        case ColumnType.STRING | ColumnType.BOOLEAN:
            return {"type": str(column.type)}


def _ref(where: str, name: str) -> Schema:
    return {"$ref": f"#/{where}/{name}"}


def _one_line(text: str | None) -> str:
    """A docstring's words; how it is indented differs between versions of Python."""
    return " ".join((text or "").split())
