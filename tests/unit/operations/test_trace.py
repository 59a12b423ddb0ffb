"""Spans become a waterfall: trees in the order of time, what they link to below."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rich.console import Console

from libs.operations.trace import Step, TraceSpan, Waterfall, rendered, waterfall

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_span(
    span_id: str,
    at: float = 0,
    *,
    trace: str = "t1",
    parent: str | None = None,
    took: float = 1,
    error: str | None = None,
    links: tuple[tuple[str, str], ...] = (),
) -> TraceSpan:
    return TraceSpan(
        trace_id=trace,
        span_id=span_id,
        parent=parent,
        service="ingestor",
        name=span_id,
        started=BEGAN + timedelta(seconds=at),
        duration=took,
        error=error,
        links=links,
        attributes={},
    )


def lines(this: Waterfall) -> list[tuple[int, str]]:
    return [(step.depth, step.name) for step in this.steps]


def test_children_stand_below_their_parent_in_the_order_of_their_start() -> None:
    spans = [
        a_span("ingest"),
        a_span("publish", 5, parent="transform"),
        a_span("transform", 2, parent="ingest"),
        a_span("archive", 1, parent="ingest"),
        a_span("validate", 3, parent="transform"),
    ]
    this = waterfall(["t1"], {"t1": spans})
    assert lines(this) == [(0, "ingest"), (1, "archive"), (1, "transform"), (2, "validate"), (2, "publish")]
    assert [step.offset for step in this.steps] == [0, 1, 2, 3, 5]
    assert this.duration == 6


def test_a_span_whose_parent_is_not_there_is_shown_all_the_same() -> None:
    assert lines(waterfall(["t1"], {"t1": [a_span("land", parent="lost")]})) == [(0, "land")]


def test_the_batchs_trace_stands_before_that_of_its_generation() -> None:
    traces = {"own": [a_span("ingest", 5, trace="own")], "other": [a_span("older", 0, trace="other")]}
    this = waterfall(["own", "other"], traces)
    assert lines(this) == [(0, "ingest"), (0, "older")]
    assert this.started == BEGAN


def test_what_is_linked_is_shown_once_and_may_have_been_before() -> None:
    link = ("p1", "publish")
    traces = {
        "t1": [a_span("ingest", links=(link,)), a_span("build", 1, parent="ingest", links=(link,))],
        "p1": [
            a_span("publish", -10, trace="p1", links=(("o1", "original"),)),
            a_span("unrelated", trace="p1"),
        ],
        "o1": [a_span("original", -99, trace="o1")],
    }
    this = waterfall(["t1"], traces)
    assert lines(this) == [(0, "ingest"), (1, "build"), (0, "publish"), (1, "original")]
    assert [step.linked for step in this.steps] == [False, False, True, True]
    assert [step.offset for step in this.steps] == [0, 1, -10, -99]


def test_links_in_a_circle_come_to_an_end() -> None:
    traces = {
        "t1": [a_span("a", links=(("t2", "b"),))],
        "t2": [a_span("b", trace="t2", links=(("t1", "a"), ("t2", "b")))],
    }
    assert lines(waterfall(["t1"], traces)) == [(0, "a"), (0, "b")]


def test_a_trace_the_store_does_not_know_is_no_trouble() -> None:
    this = waterfall(["t1"], {"t1": []}, ["t1"])
    assert (this.steps, this.duration, this.started, this.missing) == ([], 0, None, ["t1"])
    assert "not in the store: t1" in drawn(this)


def test_it_is_drawn_with_times_bars_and_errors() -> None:
    text = drawn(
        waterfall(["t1"], {"t1": [a_span("ingest"), a_span("build", 1, parent="ingest", error="disk full")]})
    )
    first, second, third, *_ = text.splitlines()[1:]
    assert first.split()[:5] == ["+0.000", "s", "1.00", "s", "ingestor"]
    assert "█" in first
    assert "  build" in second
    assert "disk full" in third
    assert text.rstrip().endswith("2 steps in 2.00 s")


def test_a_service_name_is_never_taken_for_markup() -> None:
    step = a_span("[bold]x[/bold]")
    assert "[bold]x[/bold]" in drawn(waterfall(["t1"], {"t1": [step]}))


def drawn(this: Waterfall) -> str:
    console = Console(width=200, file=None, record=True, quiet=False)
    with console.capture() as captured:
        console.print(rendered(this))
    return captured.get()


def test_steps_are_plain_data() -> None:
    (step,) = waterfall(["t1"], {"t1": [a_span("ingest", took=0.5)]}).steps
    assert step == Step(
        depth=0,
        offset=0.0,
        duration=0.5,
        service="ingestor",
        name="ingest",
        error=None,
        linked=False,
        trace_id="t1",
        span_id="ingest",
        attributes={},
    )
