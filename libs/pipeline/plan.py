"""What to build next: values in, a plan out. Nothing here reads a clock or a database."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from libs.datasets import Dataset

__all__ = [
    "Batch",
    "Kind",
    "Plan",
    "Request",
    "Tried",
    "make_plan",
    "may_build",
    "plan_hash",
    "staging_fingerprint",
]

ATTEMPTS: Final = 3
"""How often a candidate whose verdict was `error` is built and judged before a person must look."""

_FIRST_PAUSE: Final = timedelta(seconds=2)
_LONGEST_PAUSE: Final = timedelta(minutes=10)


class Kind(StrEnum):
    INCREMENTAL = "incremental"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Batch:
    """A closed batch with rows. published: the current generation carries it; held: an operator left it out.

    traceparent is that of its root span."""

    id: uuid.UUID
    closed_at: datetime
    held: bool
    published: bool
    accepted: int = 0
    traceparent: str | None = None

    @property
    def pending(self) -> bool:
        return not self.held and not self.published

    @property
    def outcast(self) -> bool:
        return self.held and self.published


@dataclass(frozen=True, slots=True)
class Request:
    """A rebuild that an operator asked for and that no generation has answered."""

    id: int
    kind: Kind
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """A generation to be built.

    parent is the generation that readers see now: an incremental plan applies `batches` to a clone of it, a
    full one makes everything anew from `batches` and only remembers it. batches are in the order of their
    closing; prompts are those that called for the plan (pending, or held though published), requests the
    operators' that it answers, the last of them made at asked_at. cause names what led to it, for the
    ids of the events that follow.
    """

    kind: Kind
    parent: int | None
    batches: tuple[Batch, ...]
    prompts: tuple[Batch, ...]
    requests: tuple[int, ...]
    asked_at: datetime | None
    cause: uuid.UUID
    plan_hash: str


@dataclass(frozen=True, slots=True)
class Tried:
    """How an earlier generation of the same plan ended. attempt counts from 1."""

    attempt: int
    verdict: str | None
    failed: bool
    ended_at: datetime


def make_plan(
    batches: Sequence[Batch],
    *,
    parent: int | None,
    requests: Sequence[Request] = (),
    fingerprint: str,
    stale_staging: bool = False,
    lost: bool = False,
) -> Plan | None:
    """The next generation, or None if the current one has all it should.

    Args:
        batches: the pending and the outcast; for a full plan also the published ones.
        parent: the current generation.
        fingerprint: of the dataset's folder.
        stale_staging: the parent was made with another staging.sql or other row rules.
        lost: the parent's file is gone.
    """
    pending = [batch for batch in batches if batch.pending]
    outcast = any(batch.outcast for batch in batches)
    wanted = bool(pending or outcast or requests or lost)
    if not wanted or (parent is None and not pending):
        return None
    asked = any(request.kind is Kind.FULL for request in requests)
    full = parent is None or outcast or stale_staging or lost or asked
    chosen = [batch for batch in batches if not batch.held] if full else pending
    chosen.sort(key=_age)
    prompts = sorted((batch for batch in batches if batch.pending or batch.outcast), key=_age)
    kind = Kind.FULL if full else Kind.INCREMENTAL
    return Plan(
        kind=kind,
        parent=parent,
        batches=tuple(chosen),
        prompts=tuple(prompts),
        requests=tuple(request.id for request in requests),
        asked_at=max((request.requested_at for request in requests), default=None),
        cause=prompts[0].id if prompts else _cause(parent, requests),
        plan_hash=plan_hash(kind, parent, [batch.id for batch in chosen], fingerprint),
    )


def may_build(plan: Plan, tried: Sequence[Tried], *, now: datetime) -> int | None:
    """The number of the attempt to make now; None if the plan must wait, or needs something new.

    A plan that the gate blocked is not built again, nor one whose verdict was `error` three times; one that
    could not be built is tried again with a growing pause. What was tried before an operator asked for it counts
    no more.
    """
    if not tried:
        return 1
    attempt = max(earlier.attempt for earlier in tried) + 1
    counted = [earlier for earlier in tried if plan.asked_at is None or earlier.ended_at >= plan.asked_at]
    errors = sum(earlier.verdict == "error" for earlier in counted)
    if errors >= ATTEMPTS or any(earlier.verdict == "fail" for earlier in counted):
        return None
    trouble = errors + sum(earlier.failed for earlier in counted)
    if not trouble:
        return attempt
    pause = min(_FIRST_PAUSE * 2 ** min(trouble - 1, 20), _LONGEST_PAUSE)
    return attempt if now >= max(earlier.ended_at for earlier in counted) + pause else None


def _cause(parent: int | None, requests: Sequence[Request]) -> uuid.UUID:
    name = f"rebuild:{requests[0].id}" if requests else f"lost:{parent}"
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:drp:{name}")


def _age(batch: Batch) -> tuple[datetime, uuid.UUID]:
    return batch.closed_at, batch.id


def plan_hash(kind: Kind, parent: int | None, batches: Sequence[uuid.UUID], fingerprint: str) -> str:
    """What makes two plans the same: the kind, the parent, the set of batches and the dataset's folder."""
    lines = [kind, str(parent), fingerprint, *sorted(str(batch) for batch in batches)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def staging_fingerprint(dataset: Dataset) -> str:
    """What a staging row depends on besides its event: another one makes the next build a full one."""
    rules = [f"{rule.name}\n{rule.broken_sql}" for rule in dataset.row_rules]
    return hashlib.sha256("\n\n".join([dataset.staging_sql, *rules]).encode()).hexdigest()
