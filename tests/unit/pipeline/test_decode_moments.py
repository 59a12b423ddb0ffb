"""However a moment is written, the fast ways read it as the exact reader does."""

from __future__ import annotations

import datetime as dt
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.pipeline import structs
from libs.pipeline.decode import Decoder
from libs.pipeline.exact import ExactReader
from libs.pipeline.refusals import LandedRow, Refused
from libs.testing.builders import a_payment, an_order_placed, encoded
from tests.unit.pipeline.decoding import ENTRY_ID, ENTRY_TIME, ORDERS, PAYMENTS

DECODERS: Final = {dataset.name: (Decoder(dataset), ExactReader(dataset)) for dataset in (ORDERS, PAYMENTS)}

DAYS = st.dates().map(dt.date.isoformat)
CLOCKS = st.times().map(dt.time.isoformat) | st.sampled_from(
    ["23:59:60", "23:59:60.0", "12:00:60", "24:00:00", "09:30", "09:30:00.1234567", f"00:00:00.{'3' * 99}"]
)
OFFSETS = st.sampled_from(["", "Z", "z", "+00:00", "-00:00", "+14:00", "-12:30", "+0100", "+25:00"])
WRITTEN = st.builds("{}{}{}{}".format, DAYS, st.sampled_from("Tt _"), CLOCKS, OFFSETS)
EDGES = st.sampled_from(
    ["0001-01-01", "9999-12-31", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00",
     "9999-12-31T23:59:60Z", "2026-02-30", "2026-1-5", "26-01-05", "", "now", "١٢٣٤-٠١-٠٢", "2026-01-05\n"]
)  # fmt: skip
MOMENTS = DAYS | WRITTEN | EDGES


def exactly(document: bytes, position: int, dataset: str) -> LandedRow | Refused:
    reader = DECODERS[dataset][1]
    return reader.read(document, position, entry_id=ENTRY_ID, entry_time=ENTRY_TIME)


@given(st.lists(st.tuples(MOMENTS, MOMENTS | st.none()), min_size=1, max_size=4))
@settings(deadline=None)
@example([("2026-01-05", None), ("2026-01-05T10:00:00Z", None)])
@example([("1998-12-31T23:59:60Z", "1998-12-31")])
def test_moments_are_read_as_the_exact_reader_reads_them(moments: list[tuple[str, str | None]]) -> None:
    for dataset, build, field in (
        ("orders", an_order_placed, "created_at"),
        ("payments", a_payment, "captured_at"),
    ):
        events = [
            encoded(build(**{field: written}, **({} if time is None else {"time": time})))
            for written, time in moments
        ]
        expected = [exactly(event, position, dataset) for position, event in enumerate(events)]
        found = DECODERS[dataset][0].decode(b"[" + b",".join(events) + b"]", entry_id=ENTRY_ID)

        assert found.rows == [one for one in expected if not isinstance(one, Refused)]
        assert found.refused == [one for one in expected if isinstance(one, Refused)]


@given(MOMENTS)
@settings(deadline=None)
def test_a_moment_of_a_single_event_is_read_as_the_exact_reader_reads_it(written: str) -> None:
    event = encoded(an_order_placed(created_at=written))
    slots = DECODERS["orders"][0].decode(event, entry_id=ENTRY_ID)

    assert [*slots.rows, *slots.refused] == [exactly(event, 0, "orders")]


def test_a_file_full_of_days_needs_no_exact_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ExactReader, "read")
    events = [an_order_placed(created_at=day) for day in ("1997-01-01", "1998-06-30", "1997-01-01")]
    slots = DECODERS["orders"][0].decode(encoded(events), entry_id=ENTRY_ID)

    assert [row[4] for row in slots.rows] == [
        dt.datetime(1997, 1, 1, tzinfo=dt.UTC),
        dt.datetime(1998, 6, 30, tzinfo=dt.UTC),
        dt.datetime(1997, 1, 1, tzinfo=dt.UTC),
    ]


def test_an_endless_fraction_of_a_second_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of moments already read is bounded in number, so it must be in length."""
    monkeypatch.setattr(structs, "_kept_moment", None)
    endless = an_order_placed(created_at=f"2026-01-05T10:00:60.{'0' * 1_000}Z")

    assert DECODERS["orders"][0].decode(encoded([endless]), entry_id=ENTRY_ID).count == 1
