"""Spans are kept, found again and dropped when they are too old or too many."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from libs.runtime.embedded.trace_disk import Search, SpanDisk, SpanRow

NOW = time.time_ns() // 1000
DAY = 86_400 * 1_000_000
numbers = itertools.count(1)


def a_span(
    *, trace: int = 1, start_us: int = NOW, service: str = "ingestor", operation: str = "land"
) -> SpanRow:
    return SpanRow(
        trace_id=trace.to_bytes(16, "big"),
        span_id=next(numbers).to_bytes(8, "big"),
        service=service,
        process=b"process of " + service.encode(),
        operation=operation,
        start_us=start_us,
        duration_us=5,
        document=b"",
    )


def test_a_span_sent_twice_is_kept_once(tmp_path: Path) -> None:
    disk = SpanDisk(tmp_path)
    row = a_span()
    disk.add([row])
    disk.add([row])
    assert disk.count() == 1


def test_spans_outlive_the_process(tmp_path: Path) -> None:
    disk = SpanDisk(tmp_path)
    disk.add([a_span(trace=7)])
    disk.close()
    again = SpanDisk(tmp_path)
    assert len(again.spans((7).to_bytes(16, "big"))) == 1
    assert again.services() == ["ingestor"]
    assert again.operations("ingestor") == ["land"]


def test_spans_older_than_the_age_are_dropped(tmp_path: Path) -> None:
    disk = SpanDisk(tmp_path, max_age=7 * 86_400)
    disk.add([a_span(start_us=NOW - 8 * DAY), a_span(start_us=NOW - 6 * DAY)])
    disk.prune(now_us=NOW)
    assert disk.count() == 1


def test_of_too_many_spans_the_last_to_come_stay(tmp_path: Path) -> None:
    disk = SpanDisk(tmp_path, max_spans=10)
    disk.add([a_span(trace=number) for number in range(1, 26)])
    disk.prune(now_us=NOW)
    assert disk.count() == 10
    assert disk.spans((25).to_bytes(16, "big"))
    assert not disk.spans((15).to_bytes(16, "big"))


def test_a_search_looks_at_service_step_and_time(tmp_path: Path) -> None:
    disk = SpanDisk(tmp_path)
    disk.add([a_span(trace=1), a_span(trace=2, operation="close"), a_span(trace=3, service="audit")])
    disk.add([a_span(trace=4, start_us=NOW - DAY)])
    every = Search("ingestor", NOW - 2 * DAY, NOW)
    recent = Search("ingestor", NOW - 10, NOW, operation="land")
    assert [trace[-1] for trace, _ in disk.find(every)] == [2, 1, 4]
    assert [trace[-1] for trace, _ in disk.find(recent)] == [1]


def test_a_broken_file_is_put_aside_and_traces_start_afresh(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "traces.db").write_bytes(b"this is no database" * 100)
    disk = SpanDisk(tmp_path)
    disk.add([a_span()])
    assert disk.count() == 1
    assert "traces start afresh" in caplog.text
    assert list(tmp_path.glob("*.unreadable-*"))
