"""JSON Lines: cut by msgspec, which leaves numbers as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

import msgspec

from libs.adapters.files.opening import opened
from libs.adapters.files.rows import CHUNK, TEXT_AT_MOST, Chunk, Layout, Unreadable, row_id
from libs.errors import Permanent

__all__ = ["chunk_of", "line_columns", "read_lines"]

Rows = list[dict[str, msgspec.Raw]]

_text: Final = msgspec.json.Decoder(str).decode


def line_columns(path: Path) -> list[str]:
    """The keys of the first line that can be read."""
    return next((list(fields) for rows, _ in _json_lines(path) for fields in rows), [])


def read_lines(path: Path, layout: Layout) -> Iterator[Chunk]:
    for rows, unreadable in _json_lines(path):
        yield chunk_of(rows, layout, unreadable)


def chunk_of(rows: Rows, layout: Layout, unreadable: Sequence[Unreadable] = ()) -> Chunk:
    """JSON objects, each value as it is written, as a chunk."""
    names: dict[str, bytes] = {}
    data, times = [], []
    for fields in rows:
        named = {layout.fields.get(name, name): value for name, value in fields.items()}
        for name in named.keys() - names.keys():
            names[name] = msgspec.json.encode(name) + b":"
        data.append(str(b"{" + b",".join(names[n] + named[n] for n in sorted(named)) + b"}", "utf-8"))
        times.append(_moment(named.get(layout.time)) if layout.time else None)
    ids = [row_id(layout.name + one) for one in data]
    return Chunk(ids=ids, data=data, times=times, unreadable=unreadable)


def _json_lines(path: Path) -> Iterator[tuple[Rows, list[Unreadable]]]:
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    rows: Rows = []
    unreadable: list[Unreadable] = []
    with opened(path) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            if not line.strip():
                continue
            try:
                line.decode("utf-8")
                rows.append(decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                text = line[:TEXT_AT_MOST].decode("utf-8", "backslashreplace").rstrip("\r\n")
                unreadable.append(Unreadable(line=number, text=text, error=str(error)[:300]))
            if len(rows) + len(unreadable) >= CHUNK:
                yield rows, unreadable
                rows, unreadable = [], []
    yield rows, unreadable


def _lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except (OSError, EOFError) as error:
        raise Permanent(f"{path} cannot be read on", why=str(error)) from error


def _moment(value: msgspec.Raw | None) -> str | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(_text(value))
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return aware.isoformat().replace("+00:00", "Z")
