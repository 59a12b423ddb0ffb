"""`drp publish --url`: the records of a JSON API become events, once or again and again.

A record is treated as a line of a JSON Lines file is: its source is the address without credentials and query
unless given, and its id follows from source and record, so a record pulled twice adds nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from libs.adapters.bus import Bus
from libs.adapters.files import Chunk, Layout, Unreadable, chunk_of
from libs.adapters.http import NoAnswer, address_of, get
from libs.datasets import Dataset
from libs.errors import DrpError, Permanent
from libs.operations.publishing import LIMIT, Entries, Progress, layout_of, publish_rows

__all__ = ["Address", "Pull", "Pulled", "records_at"]

ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
LONGEST_WAIT: Final = 60.0
"""Seconds that a server may ask to wait within a round; if it is more, the round has failed."""
CHUNK: Final = 20_000
TEXT_AT_MOST: Final = 64 * 1024
GIVES_UP_AFTER: Final = 3
"""Rounds that can't work, without a good one between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What to ask, and where its answer holds the records.

    url and headers may hold secrets; no message repeats them. records is the dotted path of names to the array;
    None: the document is the array. timeout (seconds) and max_bytes are of a whole answer.
    """

    url: str = field(repr=False)
    records: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 30.0
    max_bytes: int = 64 * 1024 * 1024


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """Rounds, and those of them that failed. records: in all answers; events: those of them that were published,
    all that the round before did not bring already; unreadable: how many of these are no JSON objects. entries:
    of the stream. error: why the last round failed; None if it didn't, and all that was there is published."""

    source: str
    rounds: int = 0
    failed: int = 0
    records: int = 0
    events: int = 0
    unreadable: int = 0
    entries: int = 0
    seconds: float = 0.0
    error: str | None = None

    def and_then(self, other: Pulled) -> Pulled:
        names = [name for name in self.__struct_fields__ if name not in {"source", "error"}]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Pulled(source=self.source, error=other.error, **sums)


@dataclass(kw_only=True)
class Pull:
    """Pulls an address into a dataset's stream. Once `stop` is set no round and no attempt begins.

    mapping, source, time, rate, limit, on_progress, on_entries and attributes are what they are for publish_file.
    """

    bus: Bus
    dataset: Dataset
    address: Address
    mapping: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    time: datetime | None = None
    rate: float | None = None
    limit: int = LIMIT
    on_progress: Progress | None = None
    on_entries: Entries | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    rng: random.Random = field(default_factory=random.Random)
    _known: Set[object] = frozenset()

    async def once(self) -> Pulled:
        """Ask until there is an answer, and publish what in it the last answer did not have.

        Raises:
            Permanent: the answer is a refusal, is too large, is no JSON, or has no records where they should be.
            Transient: no answer, however often it was tried, or Redis is away. Again adds nothing twice.
        """
        source = self.source or address_of(self.address.url)
        layout = layout_of(self.dataset, self.mapping, source, self.time)
        body = await self._answer()
        chunks = await asyncio.to_thread(_chunks, body, self.address.records, layout)
        published = await publish_rows(
            self.bus,
            self.dataset,
            (_without(chunk, self._known) for chunk in chunks),
            source=source,
            time=self.time,
            rate=self.rate,
            limit=self.limit,
            kind="url",
            attributes={"drp.url": address_of(self.address.url), **self.attributes},
            on_progress=self.on_progress,
            on_entries=self.on_entries,
        )
        self._known = frozenset(name for chunk in chunks for name in (*chunk.ids, *chunk.unreadable))
        return Pulled(
            source=source,
            rounds=1,
            records=sum(len(chunk.ids) + len(chunk.unreadable) for chunk in chunks),
            events=published.events,
            unreadable=published.unreadable,
            entries=published.entries,
            seconds=published.seconds,
        )

    async def repeat(self, every: float, *, told: Callable[[Pulled | DrpError], None]) -> Pulled:
        """Rounds, `every` seconds from the end of one to the begin of the next, until `stop` is set.

        Args:
            told: called after each round: what it did, or why it failed. The next one is tried all the same.

        Raises:
            Permanent: the very first round says that this can't work, or GIVES_UP_AFTER later ones do.
        """
        total = Pulled(source=self.source or address_of(self.address.url))
        hopeless = 0
        while not self.stop.is_set():
            pause = every
            try:
                done = await self.once()
            except DrpError as error:
                if isinstance(error, Permanent) and not total.rounds:
                    raise
                told(error)
                hopeless += isinstance(error, Permanent)
                if hopeless == GIVES_UP_AFTER:
                    what = f"{error.what}, {GIVES_UP_AFTER} rounds in a row"
                    raise Permanent(what, why=error.why, fix=error.fix) from error
                total = total.and_then(Pulled(source=total.source, rounds=1, failed=1, error=str(error)))
                if isinstance(error, NoAnswer):
                    pause = max(every, error.seconds or 0.0)
            else:
                told(done)
                hopeless = 0
                total = total.and_then(done)
            await self._pause(pause)
        return total

    async def _answer(self) -> bytes:
        asked = self.address
        for attempt in range(ATTEMPTS):
            try:
                return await get(
                    asked.url, headers=asked.headers, timeout=asked.timeout, max_bytes=asked.max_bytes
                )
            except NoAnswer as error:
                wait = error.seconds or 0.0
                if attempt == ATTEMPTS - 1 or wait > LONGEST_WAIT:
                    raise
                longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
                await self._pause(max(wait, self.rng.uniform(longest / 10, longest)))
                if self.stop.is_set():
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)


def records_at(body: bytes, path: str | None) -> list[msgspec.Raw]:
    """The elements of the array at the dotted path; of the document itself if path is None.

    Raises:
        Permanent: the document is no JSON, or there is no such array in it.
    """
    here: msgspec.Raw | bytes = body
    for name in path.split(".") if path else ():
        fields = _decoded(here, dict[str, msgspec.Raw], f"the answer has no {path!r}")
        if name not in fields:
            found = ", ".join(list(fields)[:20]) or "nothing"
            raise Permanent(
                f"the answer has no {path!r}",
                why=f"where {name!r} should be it has {found}",
                fix="--records PATH",
            )
        here = fields[name]
    what = f"{path!r} of the answer is no array" if path else "the answer is no array"
    found_there: list[msgspec.Raw] = _decoded(here, list[msgspec.Raw], what)
    return found_there


def _decoded(text: msgspec.Raw | bytes, kind: Any, otherwise: str) -> Any:
    try:
        bytes(text).decode("utf-8")
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise Permanent(otherwise, why=str(error), fix="--records PATH") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Permanent("the answer is no JSON", why=str(error)[:200]) from error


def _chunks(body: bytes, path: str | None, layout: Layout) -> list[Chunk]:
    """The answer's records, written so that only their values count for their identity."""
    records = records_at(body, path)
    return [_chunk(records[first : first + CHUNK], first, layout) for first in range(0, len(records), CHUNK)]


def _chunk(records: list[msgspec.Raw], first: int, layout: Layout) -> Chunk:
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    rows: list[dict[str, msgspec.Raw]] = []
    unreadable: list[Unreadable] = []
    for number, record in enumerate(records, start=first + 1):
        try:
            rows.append(decode(msgspec.json.format(bytes(record), indent=-1)))
        except msgspec.MsgspecError as error:
            text = bytes(record)[:TEXT_AT_MOST].decode("utf-8", "replace")
            unreadable.append(Unreadable(line=number, text=text, error=str(error)[:300]))
    return chunk_of(rows, layout, unreadable)


def _without(chunk: Chunk, known: Set[object]) -> Chunk:
    """What of the chunk is not known yet."""
    if not known:
        return chunk
    new = [at for at, event_id in enumerate(chunk.ids) if event_id not in known]
    return Chunk(
        ids=[chunk.ids[at] for at in new],
        data=[chunk.data[at] for at in new],
        times=[chunk.times[at] for at in new],
        unreadable=[line for line in chunk.unreadable if line not in known],
    )
