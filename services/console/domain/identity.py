"""published = accepted + duplicate + quarantined + dead-lettered + in flight: the sum over all datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from services.console.domain.flow import Stage

__all__ = ["Identity", "identity", "map_counts", "uncounted"]


class Report(Protocol):
    """What is taken of libs.operations.ledger.LedgerReport."""

    @property
    def dataset(self) -> str: ...
    @property
    def published(self) -> int: ...
    @property
    def accepted(self) -> int: ...
    @property
    def duplicate(self) -> int: ...
    @property
    def quarantined(self) -> int: ...
    @property
    def dead_lettered(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def unaccounted(self) -> int: ...
    @property
    def problems(self) -> list[str]: ...


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The sums. published, in_flight and unaccounted are None where the streams were not counted: then the others are
    what the batches say."""

    published: int | None
    accepted: int
    duplicate: int
    quarantined: int
    dead_lettered: int
    in_flight: int | None
    unaccounted: int | None
    problems: list[str]


def identity(counted: Sequence[Report] | None, ledger: Iterable[Mapping[str, Any]] | None) -> Identity | None:
    """What was counted against the streams, if that is all; else what the batches say; None if neither is known."""
    rows = None if ledger is None else list(ledger)
    left_out = uncounted(counted, rows)
    if counted is not None and not left_out:
        return Identity(
            published=sum(one.published for one in counted),
            accepted=sum(one.accepted for one in counted),
            duplicate=sum(one.duplicate for one in counted),
            quarantined=sum(one.quarantined for one in counted),
            dead_lettered=sum(one.dead_lettered for one in counted),
            in_flight=sum(one.in_flight for one in counted),
            unaccounted=sum(abs(one.unaccounted) for one in counted),
            problems=[problem for one in counted for problem in one.problems],
        )
    if rows is None:
        return None
    return Identity(
        published=None,
        accepted=sum(row["accepted"] for row in rows),
        duplicate=sum(row["duplicate"] for row in rows),
        quarantined=sum(row["quarantined"] for row in rows),
        dead_lettered=sum(row["dead_lettered"] for row in rows),
        in_flight=None,
        unaccounted=None,
        problems=left_out,
    )


def uncounted(counted: Sequence[Report] | None, ledger: Iterable[Mapping[str, Any]] | None) -> list[str]:
    """Of which datasets there are batches though they were not counted, in a sentence each."""
    if counted is None:
        return []
    known = {one.dataset for one in counted}
    return [
        f"dataset {row['dataset']} is not among the console's: its stream was not counted"
        for row in ledger or ()
        if row["dataset"] not in known
    ]


def map_counts(
    sums: Identity | None,
    generations: Sequence[Mapping[str, Any]] | None,
    stages: Iterable[Stage],
    objects: int | None,
) -> dict[str, int | None]:
    """What is written at the stations of the map."""
    runs = {stage.step: stage.runs for stage in stages}
    found: dict[str, int | None] = {"objects": objects, "verdicts": runs["gate"], "steps": runs["audit"]}
    if sums is not None:
        found |= {
            "published": sums.published,
            "accepted": sums.accepted,
            "duplicate": sums.duplicate,
            "refused": sums.quarantined + sums.dead_lettered,
        }
    if generations is not None:
        staged = sum(one["staged"] or 0 for one in generations)
        found |= {
            "readable": staged,
            "rejected": sum(one["rejected"] or 0 for one in generations),
            "staged": staged + sum((one["rejected"] or 0) + (one["superseded"] or 0) for one in generations),
        }
    return found
