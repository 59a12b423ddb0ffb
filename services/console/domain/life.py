"""An event's life as a page tells it: where it is now in one sentence, and the steps that brought it there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

__all__ = ["Step", "Versions", "refusal_steps", "refusal_told", "steps", "told", "versions"]


class Event(Protocol):
    """What is taken of either."""

    @property
    def stream(self) -> str: ...
    @property
    def entry(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def published_at(self) -> datetime | None: ...
    @property
    def batch(self) -> UUID: ...
    @property
    def batch_closed_at(self) -> datetime | None: ...
    @property
    def object(self) -> str | None: ...
    @property
    def archived_at(self) -> datetime | None: ...


class Life(Event, Protocol):
    """What is taken of libs.operations.found.Life."""

    @property
    def dataset(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def event_time(self) -> datetime: ...
    @property
    def raw_id(self) -> int: ...
    @property
    def landed_at(self) -> datetime | None: ...
    @property
    def ingested_at(self) -> datetime: ...
    @property
    def batch_status(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def rules(self) -> list[str]: ...
    @property
    def generation(self) -> int | None: ...
    @property
    def generation_published_at(self) -> datetime | None: ...


class Refusal(Event, Protocol):
    """What is taken of libs.operations.found.Refusal."""

    @property
    def number(self) -> int: ...
    @property
    def disposition(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def field(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def landed_at(self) -> datetime: ...


Lived = TypeVar("Lived", bound=Life)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A point of an event's life. after: seconds since what it waited for; at None: it has not come to this, or
    nobody wrote down when. done: whether it has come to this. leads: the address of the page that has more."""

    name: str
    says: str
    at: datetime | None
    after: float | None
    done: bool
    tone: str = "main"
    leads: str | None = None


class Versions(msgspec.Struct, Generic[Lived], frozen=True, kw_only=True):
    """The events of one row's key: the one that counts first, then the others, the newest first."""

    dataset: str
    key: str
    lives: list[Lived]


_COUNTS = ("staged", "applied", "rejected")


def versions(lives: Iterable[Lived]) -> list[Versions[Lived]]:
    """By key, in the order in which the keys come."""
    ordered = sorted(lives, key=_named)
    return [
        Versions(dataset=dataset, key=key, lives=_counting_first(list(group)))
        for (dataset, key), group in groupby(ordered, key=_named)
    ]


def _named(life: Life) -> tuple[str, str]:
    return life.dataset, life.key


def _counting_first(lives: Sequence[Lived]) -> list[Lived]:
    newest_first = sorted(lives, key=lambda each: each.event_time, reverse=True)
    return sorted(newest_first, key=lambda each: each.place not in _COUNTS)


def told(life: Life) -> str:
    """Where an accepted event is, in one sentence."""
    match life.place:
        case "staged":
            return f"Readers see it, since generation {life.generation}."
        case "applied":
            return f"Generation {life.generation} applied it, and readers see what came of it."
        case "rejected":
            return f"Its row breaks {_listed(life.rules)}: readers don't see it in the marts; it is kept as rejected."
        case "superseded":
            return "A later version of the same row counts in its place."
        case "held" if life.generation is not None:
            return "Its batch is held: readers see it until the next generation, which leaves it out."
        case "held":
            return "Its batch is held: somebody left it out of what readers see."
        case "open":
            return "It has landed, and its batch takes more."
        case _:
            return f"It has landed; its batch is {life.batch_status}, and readers don't see it yet."


def refusal_told(refusal: Refusal) -> str:
    """What became of an event that was not taken."""
    kept = {
        "open": "it is kept until somebody settles it",
        "redriven": "it was published again",
        "discarded": "somebody put it away",
    }
    where = f" ({refusal.field})" if refusal.field else ""
    return f"{refusal.disposition.capitalize()}, {refusal.reason}{where}: {kept.get(refusal.state, refusal.state)}."


def steps(life: Life, *, archives: bool) -> list[Step]:
    """From its producer to its readers; and to the archive, if that is kept."""
    batch = f"/batches/{life.batch}"
    found = [
        _published(life),
        Step(
            name="landed",
            says=f"row {life.raw_id:,} of RAW",
            at=life.landed_at or life.ingested_at,
            after=_between(life.published_at, life.landed_at or life.ingested_at),
            done=True,
        ),
        Step(
            name="batch closed",
            says=str(life.batch)[:8],
            at=life.batch_closed_at,
            after=_between(life.landed_at, life.batch_closed_at),
            done=life.batch_closed_at is not None,
            leads=batch,
        ),
        _readable(life),
    ]
    return [*found, *_archived(life, archives=archives)]


def refusal_steps(refusal: Refusal, *, archives: bool) -> list[Step]:
    """From its producer to where it is kept."""
    return [
        _published(refusal),
        Step(
            name=refusal.disposition,
            says=f"under number {refusal.number}",
            at=refusal.landed_at,
            after=_between(refusal.published_at, refusal.landed_at),
            done=True,
            tone="bad",
            leads=f"/quarantine/{refusal.number}",
        ),
        Step(
            name="batch closed",
            says=str(refusal.batch)[:8],
            at=refusal.batch_closed_at,
            after=_between(refusal.landed_at, refusal.batch_closed_at),
            done=refusal.batch_closed_at is not None,
            leads=f"/batches/{refusal.batch}",
        ),
        *_archived(refusal, archives=archives),
    ]


def _published(event: Event) -> Step:
    place = f"entry {event.entry} of {event.stream}"
    return Step(
        name="published",
        says=f"{place}, number {event.position + 1:,} in it" if event.position else place,
        at=event.published_at,
        after=None,
        done=True,
    )


def _readable(life: Life) -> Step:
    if life.place == "held":
        says = (
            "left out of what readers see" if life.generation is None else "the next generation leaves it out"
        )
        return Step(name="held", says=says, at=None, after=None, done=True, tone="wait")
    names = {"superseded": "superseded", "rejected": "rejected"}
    return Step(
        name=names.get(life.place, "readable"),
        says="waits for a generation" if life.generation is None else f"generation {life.generation}",
        at=life.generation_published_at,
        after=_between(life.batch_closed_at, life.generation_published_at),
        done=life.generation is not None,
        tone="bad" if life.place == "rejected" else "main",
        leads=None if life.generation is None else f"/quality?generation={life.generation}#generation",
    )


def _archived(event: Event, *, archives: bool) -> list[Step]:
    if event.object is None and not archives:
        return []
    done = event.object is not None
    after = _between(event.batch_closed_at, event.archived_at)
    says = event.object or "not yet"
    return [Step(name="archived", says=says, at=event.archived_at, after=after, done=done)]


def _between(first: datetime | None, second: datetime | None) -> float | None:
    if first is None or second is None:
        return None
    return max(0.0, (second - first).total_seconds())


def _listed(rules: Sequence[str]) -> str:
    return " and ".join(rules) if rules else "a rule"
