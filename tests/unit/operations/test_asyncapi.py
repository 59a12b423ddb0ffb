"""The AsyncAPI document is valid, is what stands in docs, and says of an event what the services say."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, get_type_hints

import jsonschema
import pytest
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from libs.contracts.events import EVENT_TYPES, PipelineEvent, encode_event
from libs.contracts.streams import GROUPS, STREAMS
from libs.datasets import load_datasets
from libs.operations.asyncapi import asyncapi, asyncapi_yaml
from libs.pipeline.decode import Decoder
from libs.testing.builders import Event, a_payment, an_order_placed, encoded

ROOT: Final = Path(__file__).parents[3]
DATASETS: Final = load_datasets((ROOT / "libs" / "datasets", ROOT / "tests" / "data" / "datasets"))
DOCUMENT: Final = asyncapi(DATASETS)
VALUES: Final[dict[Any, Any]] = {
    str: "said",
    int: 7,
    datetime: datetime(2026, 1, 5, tzinfo=UTC),
    uuid.UUID: uuid.UUID(int=7),
    list[str]: ["said"],
    list[uuid.UUID]: [uuid.UUID(int=7)],
    int | None: None,
    str | None: None,
    uuid.UUID | None: None,
}
EVENTS: Final[list[Event]] = [
    an_order_placed(),
    an_order_placed(amount=42.5),
    an_order_placed(amount="-1e2"),
    an_order_placed(amount="9999999999.99"),
    an_order_placed(amount=10_000_000_000),
    an_order_placed(amount="19,90"),
    an_order_placed(amount=" 1"),
    an_order_placed(amount=True),
    an_order_placed(amount=None),
    an_order_placed(amount=...),
    an_order_placed(order_id=12),
    an_order_placed(order_id=""),
    an_order_placed(created_at=1767605400),
    an_order_placed(data={**an_order_placed()["data"], "gift": {"to": ["me"]}}),
    an_order_placed(data=[]),
    an_order_placed(data=...),
    an_order_placed(specversion="0.3"),
    an_order_placed(specversion=...),
    an_order_placed(id=""),
    an_order_placed(id=7),
    an_order_placed(source=...),
    an_order_placed(type=None),
    an_order_placed(time=None),
    an_order_placed(time=7),
    an_order_placed(subject=None),
    an_order_placed(subject=7),
    an_order_placed(dataschema=None),
    an_order_placed(dataschema=...),
    an_order_placed(dataschema="urn:drp:orders:v2"),
    an_order_placed(drporigin="backfill"),
    an_order_placed(drporigin="yesterday"),
    an_order_placed(drporigin=None),
    an_order_placed(traceparent=7),
    an_order_placed(datacontenttype=7),
    an_order_placed(shop={"an": "extension"}),
    a_payment(),
    a_payment(payment_id=2**63 - 1),
    a_payment(payment_id=2**63),
    a_payment(payment_id=1.5),
    a_payment(payment_id="1"),
    a_payment(settled=None),
    a_payment(settled=...),
    a_payment(settled="yes"),
    a_payment(paid_on=20260105),
    a_payment(fee=None),
]


def accepts(schema: dict[str, Any], payload: Any) -> bool:
    resource: Resource[Any] = Resource.from_contents(DOCUMENT, default_specification=DRAFT7)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    whole = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
    return jsonschema.Draft7Validator(whole, registry=registry).is_valid(payload)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def told(event: type[PipelineEvent]) -> PipelineEvent:
    return event(**{name: VALUES[get_type_hints(event)[name]] for name in event.__struct_fields__})


def test_docs_hold_what_the_command_writes() -> None:
    assert (ROOT / "docs" / "asyncapi.yaml").read_text() == asyncapi_yaml(asyncapi(load_datasets())), (
        "if it is meant: drp dataset asyncapi > docs/asyncapi.yaml"
    )


def test_it_is_valid_by_the_specifications_own_schema() -> None:
    schema = json.loads(
        gzip.decompress((ROOT / "tests" / "data" / "asyncapi" / "3.0.0.json.gz").read_bytes())
    )
    validator = validator_for(schema)(schema)

    assert [error.message for error in validator.iter_errors(DOCUMENT)] == []
    assert not validator.is_valid({**DOCUMENT, "channels": {"orders": {"adress": "orders"}}})


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        node = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event.get("id"))[:12])
@pytest.mark.parametrize("in_array", [False, True])
def test_it_accepts_what_the_decoder_lands(event: Event, in_array: bool) -> None:
    name = "payments" if event.get("source") == "urn:test:payments" else "orders"
    payload = [event] if in_array else event

    slots = Decoder(DATASETS[name]).decode(encoded(payload), entry_id="1767605400000-0")

    schema = DOCUMENT["components"]["messages"][name]["payload"]
    assert accepts(schema, payload) is (not slots.refused), slots.refused


def test_an_entry_of_no_event_is_none() -> None:
    assert not accepts(DOCUMENT["components"]["messages"]["orders"]["payload"], [])


@pytest.mark.parametrize("event", EVENT_TYPES.values(), ids=lambda event: str(event.type))
def test_a_pipeline_event_is_as_described(event: type[PipelineEvent]) -> None:
    _, document = encode_event(told(event), cause=uuid.UUID(int=1), subject="batch:7", traceparent=None)
    payload = json.loads(document)
    schema = DOCUMENT["components"]["messages"][event.__name__]["payload"]

    assert accepts(schema, payload)
    assert not accepts(schema, {**payload, "type": "something.else"})
    assert not accepts(schema, {**payload, "data": {**payload["data"], "records": "many"}})
    assert not accepts(schema, {name: value for name, value in payload.items() if name != "data"})


def test_every_stream_has_its_events_and_its_readers() -> None:
    channels = {channel["address"]: channel for channel in DOCUMENT["channels"].values()}

    assert set(channels) == {dataset.stream for dataset in DATASETS.values()} | set(STREAMS.values())
    for event, stream in STREAMS.items():
        assert event.__name__ in channels[stream]["messages"]
        assert channels[stream]["x-consumer-groups"] == list(GROUPS[stream])


def test_a_row_rule_says_how_much_of_it_is_tolerated() -> None:
    amount = DOCUMENT["components"]["schemas"]["orders_data"]["properties"]["amount"]
    (rule,) = amount["x-row-rules"]

    assert (rule["name"], rule["arguments"]["min_value"], rule["tolerance"]) == (
        "amount_not_negative",
        "0.00",
        0.02,
    )
