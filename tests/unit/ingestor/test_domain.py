"""Slots and dispositions, without a server."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from libs.datasets import load_datasets
from libs.pipeline.decode import raw_copy_columns
from libs.pipeline.refusals import MAX_ENTRY_BYTES, MAX_EVENTS, LandedRow, Refused
from services.ingestor.domain import (
    MAX_PRODUCERS,
    Arrived,
    Layout,
    Leftover,
    arrived_without_data,
    conflicts_of,
    dead_letter,
    in_landing_order,
    original_of,
    producers_of,
    slices,
    split,
    storable_text,
    tallied,
    without,
)

COLUMNS = raw_copy_columns(load_datasets()["orders"])
LAYOUT = Layout.of(COLUMNS)


def a_row(
    event_id: str, position: int = 0, *, entry: str = "1-1", traceparent: str | None = None
) -> LandedRow:
    values = {
        "event_id": event_id,
        "source_system": "urn:s",
        "stream_entry_id": entry,
        "stream_position": position,
        "traceparent": traceparent,
    }
    return tuple(values.get(column) for column in COLUMNS)


def an_arrival(rows: Sequence[LandedRow] = (), *, data: bytes = b"", **more: object) -> Arrived:
    return Arrived("1-1", data, None, rows, **more)  # type: ignore[arg-type]


def a_refusal(position: int) -> Refused:
    return Refused(position, "wrong_type", "amount is no decimal", b"{}")


def test_every_slot_is_in_exactly_one_place() -> None:
    entry = an_arrival(
        [a_row("a"), a_row("b", 1)], refused=[a_refusal(2)], dead=[dead_letter(3, "why", b"x")]
    )

    assert entry.events == 4


def test_received_is_accepted_duplicate_and_quarantined_and_no_dead_letter() -> None:
    entry = an_arrival(
        [a_row(str(n), n) for n in range(5)], refused=[a_refusal(5)], dead=[dead_letter(6, "why", b"x")]
    )
    tally = tallied([entry], [Leftover("1-1", 2, [4])], first_event_time=None, last_event_time=None)

    assert (tally.accepted, tally.duplicate, tally.quarantined, tally.conflicts) == (2, 2, 2, 1)
    assert (tally.received, tally.dead_lettered) == (6, 1)


def test_rows_land_in_one_order_and_of_an_identity_the_earliest_first() -> None:
    first, second = a_row("b", 0, entry="1-9"), a_row("b", 0, entry="1-10")
    rows = in_landing_order([an_arrival([first]), an_arrival([second, a_row("a")])], LAYOUT)

    assert [row[LAYOUT.event_id] for row in rows] == ["a", "b", "b"]
    assert rows[1:] == [first, second]


def test_producers_are_told_apart_and_few() -> None:
    events = [a_row(str(n), traceparent=f"t-{n % 100}") for n in range(300)]

    assert len(producers_of([an_arrival(events)], LAYOUT)) == MAX_PRODUCERS
    assert producers_of(
        [Arrived("1-1", b"", "entry", [a_row("a"), a_row("b", traceparent="own")])], LAYOUT
    ) == [
        "own",
        "entry",
    ]


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b'{"a": 1}', None),
        (b"", None),
        (b"[]", None),
        (b'[{"a": 1}, 17 ,"x"]', [b'{"a": 1}', b"17", b'"x"']),
        (b' [[1,2],{"a":[3]}]', [b"[1,2]", b'{"a":[3]}']),
        (rb'[{"a":"\ud800"},{"b":1}]', [rb'{"a":"\ud800"}', b'{"b":1}']),
        (b"[1" + b",1" * MAX_EVENTS + b"]", None),
        (b"[" + b" " * MAX_ENTRY_BYTES + b"]", None),
        (b'[{"a":1}', None),
    ],
)
def test_an_entry_is_split_into_the_bytes_its_events_were_sent_as(
    data: bytes, events: list[bytes] | None
) -> None:
    assert split(data) == events


def test_the_original_of_a_slot_is_its_events_bytes_or_the_whole_entry() -> None:
    assert original_of(an_arrival(data=b"[1, 2]"), 1) == b"2"
    assert original_of(an_arrival(data=b'{"a":1}'), 0) == b'{"a":1}'


def test_conflicts_and_unstorable_events_keep_their_bytes_and_identity() -> None:
    entry = an_arrival([a_row("a", 0), a_row("b", 1), a_row("c", 2)], data=b'["A","B","C"]')
    (conflict,) = conflicts_of(entry, [1], LAYOUT)
    left = without(entry, {2: "numeric field overflow"}, LAYOUT)

    assert (conflict.reason, conflict.original, conflict.event_id) == ("conflict", b'"B"', "b")
    assert [row[LAYOUT.position] for row in left.rows] == [0, 1]
    assert [(slot.reason, slot.position, slot.original) for slot in left.refused] == [
        ("unstorable", 2, b'"C"')
    ]
    assert without(entry, {}, LAYOUT) is entry


def test_an_entry_without_data_is_one_slot_that_names_its_fields() -> None:
    entry = arrived_without_data("1-1", None, {b"body": b"\xff"})

    assert entry.events == 1
    assert "body" in entry.refused[0].detail
    assert json.loads(entry.refused[0].original) == {"body": "\ufffd"}


@pytest.mark.parametrize(
    ("text", "stored"),
    [(None, None), ("a\x00b", "a\ufffdb"), ("\ud800", "?"), ("x" * 5_000, "x" * 1_000), ("ä", "ä")],
)
def test_text_about_a_slot_is_made_storable(text: str | None, stored: str | None) -> None:
    assert storable_text(text) == stored


def test_slices_weigh_at_most_so_much_or_are_one_entry() -> None:
    entries = [an_arrival(data=b"x" * size) for size in (3, 3, 9, 1, 1)]

    assert [[len(entry.data) for entry in part] for part in slices(entries, max_weight=6)] == [
        [3, 3],
        [9],
        [1, 1],
    ]
    assert list(slices([], max_weight=6)) == []


def test_an_entry_of_very_many_tiny_slots_weighs_what_they_will_cost() -> None:
    entries = [an_arrival(data=b"[" + b"1," * 9_999 + b"1]")] * 4

    assert [len(part) for part in slices(entries, max_weight=500_000)] == [2, 2]
