"""A corrected event: what was to change has changed, everything else is as it was written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.datasets import Dataset, load_datasets
from libs.errors import Permanent
from libs.operations.corrections import Correction, Slot, base_of, completed, corrected, differences

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SLOT = Slot("orders", "1767323045000-0", 0, "urn:shop", "e-1")
UNKNOWN = Slot("orders", "1767323045000-0", 0, None, None)
EVENT = (
    b'{"specversion":"1.0","id":"e-1","source":"urn:shop","type":"order.placed",'
    b'"data":{"order_id":"A-1","amount":1.10,"deep":{"a":[1e2,  1.00]}}}'
)


@pytest.fixture(scope="module")
def orders() -> Dataset:
    return load_datasets()["orders"]


def made(orders: Dataset, base: bytes = EVENT, slot: Slot = SLOT, **change: Any) -> bytes:
    return corrected(base, Correction(**change), orders, slot, now=NOW)


def test_a_field_is_set_and_nothing_else_is_touched(orders: Dataset) -> None:
    after = made(orders, texts={"amount": "12.50"})
    assert after == EVENT.replace(b"1.10", b'"12.50"')


def test_attributes_of_the_envelope_have_a_prefix(orders: Dataset) -> None:
    after = json.loads(made(orders, texts={"ce-type": "order.fixed"}, remove=["deep"]))
    assert after["type"] == "order.fixed"
    assert "deep" not in after["data"]


def test_a_value_may_be_json(orders: Dataset) -> None:
    after = made(orders, documents={"amount": "12.50", "tags": '["a"]'})
    assert b'"amount":12.50' in after
    assert b'"tags":["a"]' in after


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"documents": {"amount": "12.5x"}}, "amount is no JSON"),
        ({"documents": {"amount": "NaN"}}, "amount is no JSON"),
        ({"texts": {"amount": "\udcff"}}, "amount is not valid Unicode"),
        ({"remove": ["nope"]}, "there is no nope to remove"),
        ({"remove": ["ce-nope"]}, "there is no ce-nope to remove"),
        ({"texts": {"amount": "1"}, "remove": ["amount"]}, "amount is changed twice"),
        ({"wrap": True}, "nothing to wrap"),
    ],
)
def test_what_can_not_be_changed_so_is_said(orders: Dataset, change: dict[str, Any], why: str) -> None:
    with pytest.raises(Permanent, match=why):
        made(orders, **change)


@pytest.mark.parametrize("base", [b"\xff", b"{", b"[1]", b"", b'{"specversion":"1.0","data":[1]}'])
def test_what_is_no_event_is_given_whole(orders: Dataset, base: bytes) -> None:
    with pytest.raises(Permanent, match="--file"):
        made(orders, base, texts={"amount": "1"})


def test_whole_numbers_and_truth_values_are_typed_as_the_contract_wants_them() -> None:
    from pathlib import Path

    payments = load_datasets(Path("tests/data/datasets"))["payments"]
    event = b'{"specversion":"1.0","id":"p","source":"s","type":"t","data":{}}'
    texts = {"payment_id": "7", "settled": "true", "amount": "1.00", "note": "7"}
    after = corrected(event, Correction(texts=texts), payments, SLOT, now=NOW)
    assert json.loads(after)["data"] == {"payment_id": 7, "settled": True, "amount": "1.00", "note": "7"}


def test_an_event_without_identity_gets_one_that_is_always_the_same(orders: Dataset) -> None:
    event = b'{"specversion":"1.0","type":"t","data":{}}'
    first, again = made(orders, event, UNKNOWN, new_id=False), made(orders, event, UNKNOWN)
    other = made(orders, event, Slot("orders", "1767323045000-0", 1, None, None))
    assert first == again
    assert json.loads(first)["source"] == "urn:drp:quarantine"
    assert json.loads(first)["id"] != json.loads(other)["id"]


def test_the_identity_that_could_be_read_is_kept_in_an_event_given_whole(orders: Dataset) -> None:
    after = json.loads(made(orders, b"\xff", document=b'{"data":{"order_id":"A-2"}}'))
    assert (after["id"], after["source"], after["type"]) == ("e-1", "urn:shop", "orders.corrected")


def test_an_identity_that_is_given_is_taken(orders: Dataset) -> None:
    after = json.loads(made(orders, texts={"ce-id": "mine"}, new_id=True))
    assert (after["id"], after["time"]) == ("mine", "2026-03-04T05:06:07Z")


def test_a_correction_under_a_new_identity_happens_now(orders: Dataset) -> None:
    after, again = (json.loads(made(orders, new_id=True)) for _ in range(2))
    assert after == again
    assert (after["source"], after["time"]) == ("urn:shop", "2026-03-04T05:06:07Z")
    assert after["id"] != "e-1"


def test_bare_data_gets_an_envelope_and_no_identity_from_its_own_fields(orders: Dataset) -> None:
    slot = Slot("orders", "1-0", 0, None, "A-1")
    after = json.loads(made(orders, b'{"id":"A-1","order_id":"A-1"}', slot, wrap=True))
    assert after["data"] == {"id": "A-1", "order_id": "A-1"}
    assert (after["specversion"], after["id"]) == ("1.0", slot.derived_id(None))


def test_bare_data_is_not_changed_without_saying_so(orders: Dataset) -> None:
    with pytest.raises(Permanent, match="--wrap"):
        made(orders, b'{"order_id":"A-1"}', texts={"amount": "1"})


def test_events_of_an_array_are_completed_each(orders: Dataset) -> None:
    after = json.loads(completed(b' [{"data":{}}, {"data":{},"id":"x"}]', orders, SLOT))
    assert [event["id"] for event in after] == [SLOT.derived_id(0), "x"]
    assert SLOT.derived_id(0) != SLOT.derived_id(1) != SLOT.derived_id(None)
    assert completed(b"[1", orders, SLOT) == b"[1"


def test_of_a_line_that_was_no_row_the_envelope_is_kept() -> None:
    line = b'{"id":"r","source":"urn:drp:file:x","drpunreadable":"line 5","data":{"line":5,"text":"a"}}'
    assert json.loads(base_of(line, "unreadable")) == {"id": "r", "source": "urn:drp:file:x", "data": {}}
    assert base_of(line, "wrong_type") == line


def test_differences_are_named_as_they_are_set() -> None:
    after = EVENT.replace(b"1.10", b"2").replace(b'"id":"e-1",', b"")
    assert [(each.field, each.before, each.after) for each in differences(EVENT, after)] == [
        ("amount", "1.10", "2"),
        ("ce-id", '"e-1"', None),
    ]
    assert differences(EVENT, EVENT) == []
    (whole,) = differences(b"\xff", EVENT)
    assert (whole.field, whole.before, whole.after) == ("*", "\\xff", EVENT.decode())
