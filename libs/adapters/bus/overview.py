"""Looking at streams without touching them: XINFO, XPENDING, XRANGE. A look with XREADGROUP would steal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from libs.adapters.bus.client import answers_of, redis_errors
from libs.adapters.bus.entry import Entry, read_entry

__all__ = [
    "ConsumerOverview",
    "GroupOverview",
    "StreamOverview",
    "consumers",
    "group_details",
    "overview",
    "unhandled",
    "unread",
]

PAGE: Final = 200
"""Entry ids asked for at a time."""
BODIES: Final = 16
"""Whole entries asked for at a time: each may hold eight mebibytes."""

Found = list[tuple[bytes, dict[bytes, bytes]]]


@dataclass(frozen=True, kw_only=True)
class GroupOverview:
    """How far a consumer group is.

    Attributes:
        exists: False if it is declared and missing; the numbers are then 0.
        pending: entries given out and not acknowledged.
        lag: entries never given out; None if Redis can't tell (somebody deleted entries). After a restart Redis 7.0
            says too many as long as there are any.
        oldest_pending_idle: seconds since the oldest pending entry was last touched.
        first_unhandled: id of the oldest entry that is pending or was never given out; None if there is none.
        consumers: their names.
    """

    name: str
    exists: bool
    pending: int
    lag: int | None
    oldest_pending_idle: float | None
    consumers: tuple[str, ...]
    first_unhandled: str | None = None


@dataclass(frozen=True, kw_only=True)
class StreamOverview:
    """A stream and its declared groups. entries_added: since the stream was made; length: what is left.

    first_id and last_id are of what is left, last_generated_id of what was added last: None if there is no stream.
    """

    stream: str
    length: int
    entries_added: int
    first_id: str | None
    last_id: str | None
    groups: tuple[GroupOverview, ...]
    last_generated_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConsumerOverview:
    """Who reads a stream in a group. pending: entries in its hands; oldest: seconds since the first of them was last
    given to it, None if there are none; idle: seconds since it was last heard of."""

    stream: str
    group: str
    name: str
    pending: int
    oldest: float | None
    idle: float


async def overview(client: Redis, groups: Mapping[str, Sequence[str]]) -> list[StreamOverview]:
    """One row a declared stream, also if it doesn't exist yet. Three questions, however many streams there are."""
    with redis_errors("cannot look at the streams"):
        there = await _streams(client, groups)
        wanted = [
            _Wanted(
                stream, there[stream].groups[name], unread(there[stream].groups[name], there[stream].about)
            )
            for stream, declared in groups.items()
            for name in declared
            if stream in there and name in there[stream].groups
        ]
        seen = dict(
            zip([(one.stream, one.name) for one in wanted], await _groups(client, wanted), strict=True)
        )
    return [
        _told(stream, there.get(stream), [seen.get((stream, name)) or _missing(name) for name in declared])
        for stream, declared in groups.items()
    ]


async def consumers(client: Redis, groups: Mapping[str, Sequence[str]]) -> list[ConsumerOverview]:
    """One row a consumer of the declared groups that exist: those with most in hand first."""
    found: list[ConsumerOverview] = []
    with redis_errors("cannot look at the consumers"):
        for stream, declared in groups.items():
            for group in sorted((await group_details(client, stream)).keys() & set(declared)):
                every = await client.xinfo_consumers(stream, group)
                found += [await _consumer(client, stream, group, about) for about in every]
    return sorted(found, key=lambda each: -each.pending)


async def unhandled(client: Redis, stream: str, group: str) -> AsyncIterator[Entry]:
    """The entries that the group has not acknowledged: pending ones by id, then those it was never given.

    An entry that is handled while we look may still come. All of them, if the group is missing.
    """
    with redis_errors(f"cannot look at {stream}"):
        details = await group_details(client, stream)
        start = "-"
        if group in details:
            last_delivered = details[group]["last-delivered-id"].decode()
            async for entry in _pending(client, stream, group, last=last_delivered):
                yield entry
            start = f"({last_delivered}"
        while page := cast("Found", await client.xrange(stream, min=start, max="+", count=BODIES)):
            for entry_id, fields in page:
                yield read_entry(stream, entry_id, fields, deliveries=0)
            start = f"({page[-1][0].decode()}"


async def group_details(client: Redis, stream: str) -> dict[str, dict[str, Any]]:
    """XINFO GROUPS by name; empty if there is no such stream."""
    if not await client.exists(stream):
        return {}
    return {details["name"].decode(): details for details in await client.xinfo_groups(stream)}


def unread(group: Mapping[str, Any], stream: Mapping[str, Any]) -> int | None:
    """Entries of a stream that were never given to a group; None if Redis can't tell. Both as XINFO tells them.

    Redis 7.0 counts `lag` from a number that a restart from its append-only file sets back: it is too large from then
    on, for good. Nothing is unread where the newest entry was given out, and no more can be than there is.
    """
    if _order(group["last-delivered-id"]) >= _order(stream["last-generated-id"]):
        return 0
    lag = group["lag"]
    return int(lag) if lag and lag <= stream["length"] else None


class _There(NamedTuple):
    """A stream that is there, as XINFO STREAM and XINFO GROUPS tell of it."""

    about: dict[str, Any]
    groups: dict[str, dict[str, Any]]


class _Wanted(NamedTuple):
    """A group that is there, as XINFO GROUPS tells of it, and its lag."""

    stream: str
    details: dict[str, Any]
    lag: int | None

    @property
    def name(self) -> str:
        return str(self.details["name"].decode())


async def _streams(client: Redis, streams: Collection[str]) -> dict[str, _There]:
    async with client.pipeline(transaction=False) as pipeline:
        for stream in streams:
            pipeline.xinfo_groups(stream)  # first: what is added before the other comes then counts as unread
            pipeline.xinfo_stream(stream)
        answers = await answers_of(pipeline, but="no such key")
    return {
        stream: _There(about, {each["name"].decode(): each for each in groups})
        for stream, groups, about in zip(streams, answers[::2], answers[1::2], strict=True)
        if not isinstance(about, ResponseError) and not isinstance(groups, ResponseError)
    }


async def _groups(client: Redis, wanted: Sequence[_Wanted]) -> list[GroupOverview]:
    async with client.pipeline(transaction=False) as pipeline:
        for each in wanted:
            pipeline.xpending_range(each.stream, each.name, min="-", max="+", count=1)
            pipeline.xinfo_consumers(each.stream, each.name)
        answers = await answers_of(pipeline)
    pending, readers = answers[::2], answers[1::2]
    ahead = [each for each, oldest in zip(wanted, pending, strict=True) if not oldest and each.lag != 0]
    first = await _first_unread(client, ahead)
    return [
        GroupOverview(
            name=each.name,
            exists=True,
            pending=each.details["pending"],
            lag=each.lag,
            oldest_pending_idle=oldest[0]["time_since_delivered"] / 1000 if oldest else None,
            consumers=tuple(sorted(one["name"].decode() for one in every)),
            first_unhandled=(
                oldest[0]["message_id"].decode() if oldest else first.get((each.stream, each.name))
            ),
        )
        for each, oldest, every in zip(wanted, pending, readers, strict=True)
    ]


async def _first_unread(client: Redis, wanted: Sequence[_Wanted]) -> dict[tuple[str, str], str]:
    """Id of the first entry that each group was never given, where there is one."""
    async with client.pipeline(transaction=False) as pipeline:
        for each in wanted:
            start = f"({each.details['last-delivered-id'].decode()}"
            pipeline.xrange(each.stream, min=start, max="+", count=1)
        answers: list[Found] = await answers_of(pipeline)
    return {
        (each.stream, each.name): found[0][0].decode()
        for each, found in zip(wanted, answers, strict=True)
        if found
    }


def _told(stream: str, there: _There | None, groups: Sequence[GroupOverview]) -> StreamOverview:
    if there is None:
        return StreamOverview(
            stream=stream, length=0, entries_added=0, first_id=None, last_id=None, groups=tuple(groups)
        )
    about = there.about
    return StreamOverview(
        stream=stream,
        length=about["length"],
        entries_added=about["entries-added"],
        first_id=_id_of(about["first-entry"]),
        last_id=_id_of(about["last-entry"]),
        groups=tuple(groups),
        last_generated_id=about["last-generated-id"].decode("ascii"),
    )


def _missing(name: str) -> GroupOverview:
    return GroupOverview(name=name, exists=False, pending=0, lag=None, oldest_pending_idle=None, consumers=())


async def _consumer(client: Redis, stream: str, group: str, about: dict[str, Any]) -> ConsumerOverview:
    return ConsumerOverview(
        stream=stream,
        group=group,
        name=about["name"].decode(),
        pending=about["pending"],
        oldest=await _oldest(client, stream, group, about["name"]) if about["pending"] else None,
        idle=about["idle"] / 1000,
    )


async def _oldest(client: Redis, stream: str, group: str, consumer: bytes) -> float | None:
    found: Any = await client.xpending_range(
        stream, group, min="-", max="+", count=1, consumername=consumer.decode()
    )
    return found[0]["time_since_delivered"] / 1000 if found else None


async def _pending(client: Redis, stream: str, group: str, *, last: str) -> AsyncIterator[Entry]:
    start = "-"
    while page := cast(
        "list[dict[str, Any]]",
        await client.xpending_range(stream, group, min=start, max=last, count=PAGE),
    ):
        for first in range(0, len(page), BODIES):
            some = page[first : first + BODIES]
            async with client.pipeline(transaction=False) as pipeline:
                for about in some:
                    pipeline.xrange(stream, min=about["message_id"], max=about["message_id"], count=1)
                found = await answers_of(pipeline)
            for about, entries in zip(some, found, strict=True):
                for entry_id, fields in entries:
                    yield read_entry(stream, entry_id, fields, deliveries=about["times_delivered"])
        start = f"({page[-1]['message_id'].decode()}"


def _order(entry_id: bytes) -> tuple[int, int]:
    """Ids are in the order of their two numbers, not of their text."""
    moment, number = entry_id.split(b"-")
    return int(moment), int(number)


def _id_of(entry: tuple[bytes, object] | None) -> str | None:
    return None if entry is None else entry[0].decode("ascii")
