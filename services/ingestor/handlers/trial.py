"""An entry that keeps killing its consumer, taken apart: the event that kills is found, the others land.

What is tried next is written down before it is tried. So a process that dies of it leaves the culprit's name
to the next one, which tries once more, in case the death had another cause, and then leaves that event out.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from libs.adapters.bus import Entry
from libs.adapters.postgres import Postgres, PostgresRefused
from libs.pipeline.decode import Decoder, LandedRow, Refused
from services.ingestor.domain import Arrived, dead_letter, split
from services.ingestor.handlers.landing import Landing
from services.ingestor.store import Attempt, AttemptStore, RawStore

__all__ = ["Trial"]

log = logging.getLogger(__name__)

_TAKING_APART: Final = -1
_DEATHS: Final = 2

_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    MemoryError,
)
"""What a decoder with a bug in it might raise, for all that it promises not to."""


class Trial:
    """Brings poison entries of one dataset's stream to their end."""

    def __init__(
        self, decoder: Decoder, landing: Landing, *, raw: RawStore, attempts: AttemptStore, postgres: Postgres
    ) -> None:
        self._decoder = decoder
        self._landing = landing
        self._raw = raw
        self._attempts = attempts
        self._postgres = postgres
        self._position = raw.columns.index("stream_position")

    async def bury(self, entry: Entry, reason: str) -> None:
        """Land what of the entry can be landed; its poison events go to quarantine as undeliverable.

        reason says why the bus gave up on it.

        Raises:
            Transient: Postgres could not do it now; what was found out so far is kept.
            Permanent: Postgres refuses all of it for a reason that lies in no event.
        """
        if not await self._raw.has_landed(self._postgres, entry.id):
            log.warning("entry %s of %s is tried event by event: %s", entry.id, entry.stream, reason)
            await self._landing.land_arrived([await self._tried(entry, reason)])
        async with self._postgres.transaction() as connection:
            await self._attempts.forget(connection, [entry.id])

    async def _tried(self, entry: Entry, reason: str) -> Arrived:
        last = await self._attempts.last(entry.id)
        if last is None or last.position == _TAKING_APART:
            last = await self._attempts.begin(entry.id, _TAKING_APART)
            if last.tries > _DEATHS:
                return self._whole(entry, f"taking the entry apart killed {_DEATHS} processes; {reason}")
        pieces = split(entry.data)
        events = [entry.data] if pieces is None else pieces
        rows, refused, fatal = await self._each(entry, events, last, is_array=pieces is not None)
        together = await self._attempts.begin(entry.id, len(events))
        if together.tries > _DEATHS:
            why = f"landing the entry killed {_DEATHS} processes; {reason}"
            return Arrived(
                entry.id, entry.data, entry.traceparent, (), (),
                [dead_letter(at, fatal.get(at, why), event) for at, event in enumerate(events)],
            )  # fmt: skip
        dead = [dead_letter(at, why, events[at]) for at, why in sorted(fatal.items())]
        return Arrived(entry.id, entry.data, entry.traceparent, rows, refused, dead)

    async def _each(
        self, entry: Entry, events: list[bytes], last: Attempt, *, is_array: bool
    ) -> tuple[list[LandedRow], list[Refused], dict[int, str]]:
        """Every event by itself. Those tried by an earlier process are only read again."""
        rows: list[LandedRow] = []
        refused: list[Refused] = []
        fatal = dict(last.fatal)
        for position, event in enumerate(events):
            if position in fatal:
                continue
            if position >= last.position:
                attempt = await self._attempts.begin(entry.id, position)
                if attempt.tries > _DEATHS:
                    fatal[position] = f"killed {_DEATHS} processes that tried it alone"
                    await self._attempts.give_up(entry.id, position, fatal[position])
                    continue
            try:
                found, complaints = self._read(entry, event, position, is_array=is_array)
                if found and position >= last.position:
                    await self._landing.probe(found)
            except _UNREADABLE as error:
                fatal[position] = f"can not be read: {type(error).__name__}"
                await self._attempts.give_up(entry.id, position, fatal[position])
            except PostgresRefused as error:
                if not error.blames_data:
                    raise
                # Landing finds it again, and quarantines it as unstorable.
                rows += found
            else:
                rows += found
                refused += complaints
        return rows, refused, fatal

    def _read(
        self, entry: Entry, event: bytes, position: int, *, is_array: bool
    ) -> tuple[list[LandedRow], list[Refused]]:
        """One event as the decoder would have given it within its entry."""
        # In an array of its own: an event that is itself an array must not be taken for several.
        slots = self._decoder.decode(b"[" + event + b"]" if is_array else event, entry_id=entry.id)
        rows = [(*row[: self._position], position, *row[self._position + 1 :]) for row in slots.rows]
        return rows, [replace(one, position=position) for one in slots.refused]

    def _whole(self, entry: Entry, why: str) -> Arrived:
        return Arrived(entry.id, entry.data, entry.traceparent, (), (), [dead_letter(0, why, entry.data)])
