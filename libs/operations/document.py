"""A document of the archive that somebody has kept as a file: its events are published again, as they were."""

from __future__ import annotations

import asyncio
import itertools
import re
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import msgspec

from libs.adapters.bus import Bus
from libs.adapters.files import opened
from libs.adapters.metrics import PRODUCED_EVENTS
from libs.adapters.telemetry import span
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.operations.again import Again
from libs.operations.publishing import Entries, Progress, Published, keep_pace
from libs.pipeline.archive import kind_of_line, read_lines

__all__ = ["is_document", "publish_document"]

_LINES: Final = 5_000
_FIRST_LINE: Final = 8 * 1024 * 1024
_DATASCHEMA: Final = re.compile(r"urn:drp:([a-z][a-z0-9_]*):v\d+")


def is_document(path: Path) -> bool:
    """Whether the file, gzip or not, is a document of the archive: by its first line. Blocks.

    Raises:
        Permanent: it can't be read; or it is one of refused events, which the stream would refuse again.
    """
    kind = kind_of_line(_first_line(path))
    if kind == "quarantine":
        raise Permanent(
            f"{path.name} holds what was refused, as it came: published again it is refused again",
            why="the batch's accepted events are in batch_id=….jsonl.gz",
            fix="drp quarantine ls",
        )
    return kind == "raw"


async def publish_document(
    bus: Bus,
    dataset: Dataset,
    path: Path,
    *,
    rate: float | None,
    limit: int,
    on_progress: Progress | None,
    on_entries: Entries | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Published:
    """Publish a document's events with the identity, time and payload that they had.

    Where they have landed before, RAW knows them all and nothing is added; into an empty platform they come back.

    Raises:
        Permanent: they are another dataset's, or the document is damaged; a first part may be published.
        Transient: Redis is away, or the stream stays full. Publishing again adds nothing twice.
    """
    await asyncio.to_thread(_check_dataset, dataset, path)
    began = clock.monotonic()
    told = {"drp.dataset": dataset.name, "drp.file": path.name, **(attributes or {})}
    with span("publish", root=True, attributes=told) as this, opened(path) as file:
        again = Again(bus, this.traceparent, limit=limit, on_progress=on_progress, on_entries=on_entries)
        while lines := await asyncio.to_thread(_lines, file, path):
            await again.take(dataset, lines)
            await keep_pace(rate, again.events, began)
        await again.finish(dataset)
        this.set({"drp.events": again.events})
    PRODUCED_EVENTS.labels("replay").inc(again.events)
    return Published(
        source=None,
        events=again.events,
        unreadable=0,
        entries=again.entries,
        seconds=clock.monotonic() - began,
        too_large=again.too_large,
    )


def _first_line(path: Path) -> bytes:
    try:
        with opened(path) as file:
            return file.readline(_FIRST_LINE)
    except (OSError, EOFError) as error:
        raise Permanent(f"{path} cannot be read", why=str(error)) from error


def _lines(file: IO[bytes], path: Path) -> list[bytes]:
    try:
        return [line for line in itertools.islice(file, _LINES) if line.strip()]
    except (OSError, EOFError) as error:
        raise Permanent(f"{path} breaks off", why=str(error), fix="drp archive get KEY, again") from error


def _check_dataset(dataset: Dataset, path: Path) -> None:
    """Each event names the contract it was made for, unless its producer has left that out."""
    (line,) = read_lines([_first_line(path)])
    named = msgspec.json.decode(line.envelope.get("dataschema", b'""'))
    found = _DATASCHEMA.fullmatch(str(named))
    if found is not None and found[1] != dataset.name:
        raise Permanent(
            f"the events of {path.name} are of dataset {found[1]}, not {dataset.name}",
            fix=f"--dataset {found[1]}",
        )
