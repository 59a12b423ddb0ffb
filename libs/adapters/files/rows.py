"""What comes out of a file: rows as columns, and the lines that are no rows."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CHUNK", "TEXT_AT_MOST", "Chunk", "Form", "Kind", "Layout", "Unreadable", "row_id"]

CHUNK: Final = 20_000
TEXT_AT_MOST: Final = 64 * 1024
VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))

Kind = Literal["csv", "jsonl", "parquet"]
Form = Literal["text", "integer", "boolean"]
"""How a text stands in JSON: `integer` and `boolean` without quotes, if they are written as JSON has them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a row becomes.

    fields: the JSON keys of columns, by column; the others keep their names. forms: by JSON key, text if not
    named. time: the JSON key that says when the row's event happened. name: what ids are made of, beside the
    row's JSON: the same row under the same name always has the same id.
    """

    name: str
    fields: Mapping[str, str]
    forms: Mapping[str, Form]
    time: str | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is no row. line counts from 1, the header included; text holds at most TEXT_AT_MOST."""

    line: int
    text: str
    error: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows as columns: ids, JSON objects, and times (RFC 3339 in UTC; None: not said, or no time)."""

    ids: Sequence[str]
    data: Sequence[str]
    times: Sequence[str | None]
    unreadable: Sequence[Unreadable] = ()


def row_id(name: str) -> str:
    """uuid5(NAMESPACE_URL, name) as text, without the cost of a UUID."""
    digest = hashlib.sha1(uuid.NAMESPACE_URL.bytes + name.encode(), usedforsecurity=False).hexdigest()
    variant = VARIANT[digest[16]]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
