"""What the bus computes without Redis."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from redis import exceptions as redis

from libs.adapters.bus import Entry
from libs.adapters.bus.client import open_client, translated
from libs.adapters.bus.delivery import slices
from libs.adapters.bus.entry import read_entry
from libs.adapters.bus.publishing import packed
from libs.adapters.bus.reaper import group_size
from libs.adapters.bus.trimming import finished_below
from libs.adapters.bus.window import Window
from libs.errors import Permanent, Transient


def test_an_entry_knows_when_it_was_appended() -> None:
    entry = Entry("orders", "1700000000123-4", b"{}")
    assert entry.time == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)


def test_an_entry_without_data_or_with_a_broken_traceparent_can_still_be_read() -> None:
    entry = read_entry("orders", b"1-0", {b"traceparent": b"\xff", b"other": b"x"})
    assert entry.data == b""
    assert entry.traceparent == "�"
    assert entry.fields == {b"traceparent": b"\xff", b"other": b"x"}


def test_entries_are_cut_by_bytes_but_a_large_one_stays_whole() -> None:
    entries = [Entry("orders", f"{number}-0", b"x" * size) for number, size in enumerate([3, 3, 3, 10, 1])]
    parts = [[len(entry.data) for entry in part] for part in slices(entries, 6)]
    assert parts == [[3, 3], [3], [10], [1]]
    assert list(slices([], 6)) == []


def test_what_is_no_json_stands_alone_so_that_it_spoils_no_array() -> None:
    events = [b'{"id":1}', b'{"id":', b"\xff", b'{"id":2}']
    assert packed(events, per_entry=500) == [b'{"id":', b"\xff", b'[{"id":1},{"id":2}]']


def test_an_array_holds_at_most_a_mebibyte() -> None:
    event = b'"' + b"x" * 400_000 + b'"'
    documents = packed([event] * 5, per_entry=500)
    assert [document.count(b",") + 1 for document in documents] == [2, 2, 1]
    assert max(map(len, documents)) <= 1024 * 1024


def test_an_event_larger_than_an_entry_may_pack_goes_alone() -> None:
    huge = b'"' + b"x" * 3_000_000 + b'"'
    assert packed([b"1", huge, b"2"], per_entry=500) == [b"1", huge, b"2"]


def test_an_entry_delivered_often_is_tried_in_ever_smaller_groups_and_at_last_alone() -> None:
    assert [group_size(delivered, 5) for delivered in range(1, 7)] == [64, 16, 4, 1, 1, 1]


def test_the_first_entry_still_needed_is_the_oldest_pending_or_the_next_to_be_read() -> None:
    assert finished_below("7-3", "5-0") == "5-0"
    assert finished_below("7-3", None) == "7-4"
    assert finished_below("0-0", None) == "0-1"


def test_a_read_grows_to_what_was_asked_for_and_shrinks_with_the_bytes() -> None:
    window = Window(max_records=200, max_bytes=1000)
    assert window.size == 16
    for _ in range(5):
        window.learn([1] * window.size)
    assert window.size == 200
    window.learn([100] * 200)
    assert window.size == 10
    window.learn([5000])
    assert window.size == 1
    window.learn([0])
    assert window.size == 2


def test_a_read_that_was_not_full_does_not_grow_the_next() -> None:
    window = Window(max_records=200, max_bytes=1000)
    window.learn([1, 1])
    assert window.size == 16


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (redis.ConnectionError("refused"), Transient),
        (redis.TimeoutError("slow"), Transient),
        (redis.BusyLoadingError("loading"), Transient),
        (redis.OutOfMemoryError("full"), Transient),
        (redis.ReadOnlyError("replica"), Transient),
        (redis.ResponseError("MISCONF disk"), Transient),
        (OSError("network"), Transient),
        (redis.AuthenticationError("who"), Permanent),
        (redis.NoPermissionError("may not"), Permanent),
        (redis.ResponseError("WRONGTYPE"), Permanent),
        (redis.DataError("bad"), Permanent),
    ],
)
def test_an_error_of_the_driver_says_whether_waiting_helps(error: Exception, kind: type[Exception]) -> None:
    assert type(translated(error, "cannot publish")) is kind


def test_a_url_that_is_none_says_which_setting_to_check() -> None:
    with pytest.raises(Permanent, match="DRP_REDIS_URL"):
        open_client("not a url")
