"""Where an answer holds its records."""

from __future__ import annotations

import pytest

from libs.errors import Permanent
from libs.operations.pull import records_at


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'[{"a": 1.10}, 2]', None),
        (b'{"records": [{"a": 1.10}, 2], "count": 2}', "records"),
        (b'{"data": {"items": [{"a": 1.10}, 2]}}', "data.items"),
    ],
)
def test_records_stand_at_the_path_as_they_were_written(body: bytes, path: str | None) -> None:
    assert [bytes(record) for record in records_at(body, path)] == [b'{"a": 1.10}', b"2"]


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        (b"<html>", "records", "no JSON"),
        (b"", None, "no JSON"),
        (b'{"records": [NaN]}', "records", "no JSON"),
        (b'["\xff"]', None, "no JSON"),
        (b"[" * 100_000, None, "no JSON"),
        (b'{"records": []}', None, "the answer is no array"),
        (b'{"records": 7}', "records", "'records' of the answer is no array"),
        (
            b'{"items": [], "count": 0}',
            "records",
            "no 'records': where 'records' should be it has items, count",
        ),
        (b'{"data": {}}', "data.items", "it has nothing"),
        (b'{"data": []}', "data.items", "no 'data.items'"),
    ],
)
def test_an_answer_without_records_says_what_it_has(body: bytes, path: str | None, says: str) -> None:
    with pytest.raises(Permanent, match=says):
        records_at(body, path)
