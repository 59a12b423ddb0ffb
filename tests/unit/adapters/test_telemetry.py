"""Spans and what travels of them, without a collector."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.adapters import telemetry
from libs.adapters.telemetry import current_traceparent, span, trace_id_of
from libs.errors import Permanent

ONE = f"00-{'1' * 32}-{'2' * 16}-01"
OTHER = f"00-{'3' * 32}-{'4' * 16}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that have ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry._current, "provider", provider)
    yield exporter
    provider.shutdown()


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (one,) = spans.get_finished_spans()
    return one


def test_a_span_has_a_traceparent_although_nothing_was_set_up() -> None:
    with span("land") as this:
        assert trace_id_of(this.traceparent) == this.trace_id
        assert current_traceparent() == this.traceparent
    assert current_traceparent() is None


def test_a_child_elsewhere_goes_on_in_the_trace_of_its_parent(spans: InMemorySpanExporter) -> None:
    with span("child", parent=ONE) as this:
        assert this.trace_id == "1" * 32
    parent = only(spans).parent
    assert parent is not None
    assert f"{parent.span_id:016x}" == "2" * 16


def test_a_span_within_a_span_is_its_child_and_a_root_is_not() -> None:
    with span("outer") as outer:
        with span("inner") as inner:
            assert inner.trace_id == outer.trace_id
        with span("root", root=True) as root:
            assert root.trace_id != outer.trace_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{'2' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"ff-{'1' * 32}-{'2' * 16}-01",
        f"00-{'1' * 32}-{'2' * 16}-01-more",
        f"00-{'1' * 31}G-{'2' * 16}-01",
        f"00-{'A' * 32}-{'2' * 16}-01",
        ONE + "\n",
    ],
)
def test_an_invalid_traceparent_is_nobodys_parent_and_no_link(text: str, spans: InMemorySpanExporter) -> None:
    assert trace_id_of(text) is None
    with span("step", parent=text, links=[text]):
        pass
    assert only(spans).parent is None
    assert only(spans).links == ()


def test_a_traceparent_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert trace_id_of(f"01-{'1' * 32}-{'2' * 16}-01-more") == "1" * 32


def test_links_lead_to_other_traces_once_each(spans: InMemorySpanExporter) -> None:
    with span("ingest", root=True, links=[ONE, OTHER, ONE]):
        pass
    assert [f"{link.context.trace_id:032x}" for link in only(spans).links] == ["1" * 32, "3" * 32]


def test_a_span_may_have_begun_and_ended_before_it_was_made(spans: InMemorySpanExporter) -> None:
    began = datetime(2026, 1, 5, 9, 30, 0, 123456, tzinfo=UTC)
    ended = datetime(2026, 1, 5, 9, 30, 2, 1, tzinfo=UTC)
    with span("ingest", start_time=began) as this:
        this.end_at(ended)
    assert only(spans).start_time == 1_767_605_400_123_456_000
    assert only(spans).end_time == 1_767_605_402_000_001_000


def test_an_exception_marks_the_span_failed_and_goes_on(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="amount"), span("transform"):
        raise ValueError("bad amount\n  input_value={'card': '4111'}")
    one = only(spans)
    assert one.status.description == "ValueError: bad amount"
    assert one.events[0].attributes == {
        "exception.type": "ValueError",
        "exception.message": "bad amount",
    }
    assert "4111" not in one.to_json()


def test_an_error_of_the_house_is_told_with_its_remedy(spans: InMemorySpanExporter) -> None:
    with pytest.raises(Permanent), span("transform"):
        raise Permanent("cannot build", why="the disk is full", fix="df -h")
    assert only(spans).status.description == "Permanent: cannot build: the disk is full. Try: df -h"


async def test_a_step_that_was_called_off_has_not_failed(spans: InMemorySpanExporter) -> None:
    async def wait() -> None:
        with span("wait"):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert only(spans).status.is_unset


def test_a_step_can_fail_without_an_exception(spans: InMemorySpanExporter) -> None:
    with span("validate") as this:
        this.fail("the gate said no")
    assert not only(spans).status.is_ok


def test_attributes_are_what_a_collector_takes(spans: InMemorySpanExporter) -> None:
    with span(
        "land", attributes={"drp.rows": 3, "left.out": None, "on": datetime(2026, 1, 5, tzinfo=UTC)}
    ) as this:
        this.set({"drp.batches": [ONE, 2], "share": 0.5})
    assert only(spans).attributes == {
        "drp.rows": 3,
        "on": "2026-01-05T00:00:00+00:00",
        "drp.batches": (ONE, "2"),
        "share": 0.5,
    }


async def test_steps_side_by_side_do_not_become_each_others_parents(spans: InMemorySpanExporter) -> None:
    async def step(name: str) -> None:
        with span(name):
            await asyncio.sleep(0)

    await asyncio.gather(step("a"), step("b"))
    assert [one.parent for one in spans.get_finished_spans()] == [None, None]
