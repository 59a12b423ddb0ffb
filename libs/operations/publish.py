"""`drp publish --file`: the rows of a file, or of what is piped in, become events of a dataset.

The events' source is `urn:drp:file:<name>` unless given, the name without its folder and `.gz`: the same rows
under another source are other events. What is piped in has no name: its source is `urn:drp:stdin`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from libs.adapters.bus import Bus
from libs.adapters.files import Kind, Layout, columns_of, form_of, read_rows
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.operations.document import is_document, publish_document
from libs.operations.publishing import LIMIT, Entries, Progress, Published, layout_of, publish_rows

__all__ = ["STDIN", "Published", "publish_file", "source_of"]

STDIN: Final = "urn:drp:stdin"
"""The source of what is piped in, if none is given: the same row piped in twice is one event."""


async def publish_file(
    bus: Bus,
    dataset: Dataset,
    path: Path,
    *,
    form: Kind | None = None,
    mapping: Mapping[str, str] | None = None,
    source: str | None = None,
    time: datetime | None = None,
    rate: float | None = None,
    limit: int = LIMIT,
    on_progress: Progress | None = None,
    on_entries: Entries | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Published:
    """Publish a CSV, JSON Lines or Parquet file, gzip too; or a document of the archive, as it was.

    Args:
        form: what the file holds; None tells it by its name and its first bytes.
        mapping: the file's column for a field of the contract, where the names differ.
        source: the events' source.
        time: the events' time where a row has none of its own (the contract's event time).
        rate: events a second, at most.
        limit: entries that may wait in the stream; beyond it this waits, ten minutes at most.
        on_progress: called with how many events the stream has so far.
        on_entries: called with the ids of the stream's entries, as it acknowledges them.
        attributes: more that the span of the publishing shall tell.

    Raises:
        Permanent: the file, or its columns, can't be used; nothing, or a first part, was published.
        Transient: Redis is away, or the stream stays full. Publishing again adds nothing twice.
    """
    told: Kind = await asyncio.to_thread(form_of, path) if form is None else form
    if told == "jsonl" and await asyncio.to_thread(is_document, path):
        if mapping or source or time:
            raise Permanent(
                f"{path.name} is a document of the archive: its events keep their source, time and fields",
                fix="no --map, --source and --time",
            )
        return await publish_document(
            bus,
            dataset,
            path,
            rate=rate,
            limit=limit,
            on_progress=on_progress,
            on_entries=on_entries,
            attributes=attributes,
        )
    named = source or source_of(path)
    layout = await asyncio.to_thread(_layout, dataset, path, told, mapping or {}, named, time)
    return await publish_rows(
        bus,
        dataset,
        read_rows(path, layout, told),
        source=named,
        time=time,
        rate=rate,
        limit=limit,
        kind="file",
        attributes={"drp.file": path.name, **(attributes or {})},
        on_progress=on_progress,
        on_entries=on_entries,
    )


def source_of(path: Path) -> str:
    """The source of a file's events, if none is given."""
    return f"urn:drp:file:{path.name.removesuffix('.gz')}"


def _layout(
    dataset: Dataset, path: Path, form: Kind, mapping: Mapping[str, str], source: str, time: datetime | None
) -> Layout:
    layout = layout_of(dataset, mapping, source, time)
    if form != "jsonl":  # whose lines may differ
        _check_columns(dataset, path, mapping, columns_of(path, form))
    return layout


def _check_columns(dataset: Dataset, path: Path, mapping: Mapping[str, str], columns: Sequence[str]) -> None:
    """Every mapped column is there, no name is taken twice, and every required field has a column."""
    there = f"{path.name} has {', '.join(columns)}"
    if absent := sorted(set(mapping.values()) - set(columns)):
        raise Permanent(f"there is no column {absent[0]!r} in the file", why=there)
    if taken := sorted((mapping.keys() & set(columns)) - set(mapping.values())):
        raise Permanent(
            f"field {taken[0]!r} is mapped to another column, but a column has its name", why=there
        )
    found = mapping.keys() | (set(columns) - set(mapping.values()))
    needed = [column.field for column in dataset.columns if column.required and column.field not in found]
    if needed:
        fix = " ".join(f"--map {field}=COLUMN" for field in needed)
        raise Permanent(f"the file has no column for {', '.join(needed)}", why=there, fix=fix)
