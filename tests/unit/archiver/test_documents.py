"""The archiver's documents: the same lines make the same bytes, and say what they are."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence

from services.archiver.documents import GzipDocument, Written

PIECES = [b'{"a": 1}\n{"b"', b": 2}\n", b"", b"{}\n"]


def written(pieces: Sequence[bytes]) -> tuple[Written, bytes]:
    document = GzipDocument()
    for piece in pieces:
        document.add(piece)
    done = document.finish()
    done.file.seek(0)
    return done, done.file.read()


def test_a_document_knows_its_records_bytes_and_hashes() -> None:
    done, body = written(PIECES)
    with done:
        assert gzip.decompress(body) == b"".join(PIECES)
        assert (done.records, done.bytes) == (3, len(body))
        assert done.sha256 == hashlib.sha256(body).hexdigest()
        assert done.content == f"sha256:{hashlib.sha256(b''.join(PIECES)).hexdigest()}"
    assert done.file.closed


def test_the_same_lines_make_the_same_bytes_at_any_time() -> None:
    """No clock and no file name in it: the four bytes of the time of writing are 0."""
    first, body = written(PIECES)
    second, again = written(PIECES)
    with first, second:
        assert body == again
        assert body[4:8] == bytes(4)


def test_no_lines_are_a_document() -> None:
    done, body = written([])
    with done:
        assert (gzip.decompress(body), done.records) == (b"", 0)
