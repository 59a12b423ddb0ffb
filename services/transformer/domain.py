"""What becomes of a candidate, decided from what Postgres says. Values in, values out."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.pipeline.plan import Batch, Request

__all__ = ["Candidate", "Fate", "Pointer", "View", "fate_of", "holder_of", "links_of", "why_abandon"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Which generation readers see, and its file; generation None before the first. version only grows."""

    generation: int | None
    version: int
    pinned: bool
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The one generation of a dataset that is being built, waits for its verdict, or passed.

    held: batches of it that were held since; released: batches that readers see and that it leaves out, though
    they are held no more; unarchived: batches of it that are not in the archive yet.
    """

    number: int
    state: str
    kind: str
    parent: int | None
    file: str
    sha256: str | None
    held: int
    released: int
    unarchived: int
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What Postgres says of a dataset. batches are those pending or outcast; now is the database's clock."""

    pointer: Pointer
    candidate: Candidate | None
    batches: Sequence[Batch]
    requests: Sequence[Request]
    now: datetime


class Fate(enum.Enum):
    WAIT = enum.auto()
    ABANDON = enum.auto()
    PUBLISH = enum.auto()


def fate_of(candidate: Candidate, pointer: Pointer, *, file_is_there: bool, archive_required: bool) -> Fate:
    """What to do with a candidate now."""
    if why_abandon(candidate, pointer, file_is_there=file_is_there) is not None:
        return Fate.ABANDON
    if candidate.state != "passed" or pointer.pinned or (archive_required and candidate.unarchived):
        return Fate.WAIT
    return Fate.PUBLISH


def why_abandon(candidate: Candidate, pointer: Pointer, *, file_is_there: bool) -> str | None:
    """Why a finished candidate can never be published; None if it can, or is still being built."""
    if candidate.state == "building":
        return None
    if candidate.parent != pointer.generation:
        return f"readers see generation {pointer.generation} now, it was built on {candidate.parent}"
    if candidate.held:
        return f"{candidate.held} of its batches were held since it was built"
    if candidate.released:
        return f"{candidate.released} batches that it leaves out were released since it was planned"
    if not file_is_there:
        return f"its file {candidate.file} is gone"
    return None


def links_of(prompts: Sequence[Batch]) -> tuple[str | None, list[str]]:
    """The trace that a build goes on in, the oldest batch's, and the others that it links to (64 at most)."""
    traces = [batch.traceparent for batch in prompts if batch.traceparent is not None]
    return (traces[0], traces[1:65]) if traces else (None, [])


def holder_of(consumer: str, process: uuid.UUID) -> str:
    """Names one life of one replica: a lease is never taken for that of an earlier life."""
    return f"{consumer}/{process.hex}"
