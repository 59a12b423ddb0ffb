"""Lines out of the pieces of a gzip document, wherever it is cut."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Permanent
from libs.operations import archive
from libs.operations.archive import DocumentReader

LINES = [b'{"a": 1}', b'{"b": "\\n"}', b"{}" * 3_000]
TEXT = b"".join(line + b"\n" for line in LINES)


@given(st.integers(1, 400))
def test_lines_are_whole_however_the_document_is_cut(size: int) -> None:
    body = gzip.compress(TEXT)
    reader = DocumentReader()

    found = [
        line
        for start in range(0, len(body), size)
        for lines in reader.lines(body[start : start + size])
        for line in lines
    ]

    assert found == LINES
    assert (reader.records, reader.size, reader.whole()) == (3, len(body), True)
    assert reader.stored.hexdigest() == hashlib.sha256(body).hexdigest()
    assert reader.content.hexdigest() == hashlib.sha256(TEXT).hexdigest()


def test_a_small_piece_that_unpacks_into_much_is_handed_out_bit_by_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive, "_UNPACKED_AT_ONCE", 100)
    text = b"aaaaaaaaa\n" * 1_000

    handed = [sum(map(len, lines)) for lines in DocumentReader().lines(gzip.compress(text))]

    assert sum(handed) == 9_000
    assert max(handed) <= 100


def test_a_document_that_breaks_off_is_not_whole() -> None:
    reader = DocumentReader()
    for _ in reader.lines(gzip.compress(TEXT)[:-9]):
        pass

    assert not reader.whole()


def test_what_is_no_gzip_is_refused() -> None:
    with pytest.raises(Permanent, match="can not be unpacked"):
        list(DocumentReader().lines(b"not gzip"))
