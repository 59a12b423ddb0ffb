"""What the quality gate decided of late: every rule on each of the last judged generations, and what readers see."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres, Row

__all__ = [
    "AppliedBatch",
    "Judged",
    "JudgedGeneration",
    "Readable",
    "RuleResult",
    "batches_applied",
    "judged",
    "may_be_told",
    "readable",
]

_NUMBER: Final = re.compile(r"-?[\d.,]+(e[+-]?\d+)?( rows)?", re.ASCII)
"""Great Expectations observes texts as lists of them, so that a text of digits stands in quotes."""

_JUDGED: Final = """
-- one row per rule of the newest judged generations of each dataset, newest first; one row for a generation without any
SELECT g.number, g.dataset, g.state, g.kind, g.verdict, g.verdict_at, g.override_reason,
       CASE WHEN g.state = 'blocked' THEN (
           SELECT coalesce(sum(b.accepted), 0) FROM ops.generation_batches gb JOIN ops.batches b ON b.id = gb.batch_id
           WHERE gb.generation = g.number AND b.generation IS NULL AND b.held_at IS NULL
       ) ELSE 0 END::bigint AS waiting,
       r.rule, r.kind AS rule_kind, r.status, r.observed, r.evaluated, r.unexpected, r.tolerance
FROM unnest($1::text[]) AS chosen (dataset)
CROSS JOIN LATERAL (
    SELECT number, dataset, state, kind, verdict, verdict_at, override_reason FROM ops.generations
    WHERE dataset = chosen.dataset AND verdict IS NOT NULL ORDER BY number DESC LIMIT $2
) g
LEFT JOIN ops.quality_results r ON r.generation = g.number
ORDER BY g.dataset, g.number DESC, r.rule
"""

_READABLE: Final = """
-- one row per dataset that has something to read: the generation that readers see
SELECT p.dataset, p.generation, g.verdict, g.override_reason, g.published_at,
       CASE WHEN p.pinned_at IS NOT NULL THEN p.pinned_reason END AS pinned
FROM ops.warehouse_pointer p JOIN ops.generations g ON g.number = p.generation
WHERE p.dataset = ANY($1::text[])
"""

_APPLIED: Final = """
-- one row per batch that the generation applied, newest first, with how many there are in all
SELECT s.id, s.status, s.accepted, s.opened_at, s.held_reason,
       (SELECT count(*) FROM ops.generation_batches WHERE generation = $1) AS in_all
FROM ops.batch_status s
WHERE s.id = ANY(ARRAY(
    SELECT b.id FROM ops.generation_batches gb JOIN ops.batches b ON b.id = gb.batch_id
    WHERE gb.generation = $1 ORDER BY b.opened_at DESC, b.id LIMIT $2))
ORDER BY s.opened_at DESC, s.id
"""


class RuleResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a rule was judged: pass, fail, not run or error. tolerance: a part of one. unexpected: rows that break it, of
    those evaluated; None where rows aren't counted. observed: None, too, where it is what an expectation of the user's
    own saw and no number: then it may be a row's text."""

    rule: str
    status: str
    observed: str | None
    evaluated: int | None
    unexpected: int | None
    tolerance: float | None


class JudgedGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """A generation that has its verdict: pass, fail or error.

    waiting: rows that readers lack because it is blocked; none once they were published otherwise, or held.
    """

    number: int
    dataset: str
    state: str
    kind: str
    verdict: str
    verdict_at: datetime | None
    override_reason: str | None
    waiting: int
    results: list[RuleResult]


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset's newest judged generations, newest first; none if it has none."""

    dataset: str
    generations: list[JudgedGeneration]


class Readable(msgspec.Struct, frozen=True, kw_only=True):
    """The generation that a dataset's readers see. pinned: why nothing is published after it, if a rollback pins it."""

    dataset: str
    generation: int
    verdict: str | None
    override_reason: str | None
    published_at: datetime | None
    pinned: str | None


class AppliedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that a generation applied, and where it is now."""

    id: uuid.UUID
    status: str
    accepted: int
    opened_at: datetime
    held_reason: str | None


async def judged(postgres: Postgres, datasets: Sequence[str], *, limit: int = 30) -> list[Judged]:
    """The newest judged generations of each dataset, at most so many, with the result of each rule."""
    found: dict[str, dict[int, JudgedGeneration]] = {dataset: {} for dataset in datasets}
    for row in await postgres.fetch(_JUDGED, list(found), limit):
        of = found[row["dataset"]]
        if row["number"] not in of:
            facts = {name: row[name] for name in JudgedGeneration.__struct_fields__ if name != "results"}
            of[row["number"]] = JudgedGeneration(**facts, results=[])
        if row["rule"] is not None:
            of[row["number"]].results.append(_result(row))
    return [Judged(dataset=name, generations=list(of.values())) for name, of in found.items()]


def may_be_told(kind: str, observed: str | None) -> bool:
    """Whether what a rule of this kind observed is no row's text: the user's own expectations may observe values."""
    return kind != "custom" or observed is None or _NUMBER.fullmatch(observed) is not None


def _result(row: Row) -> RuleResult:
    facts = {name: row[name] for name in RuleResult.__struct_fields__}
    if not may_be_told(row["rule_kind"], row["observed"]):
        facts["observed"] = None
    return RuleResult(**facts)


async def readable(postgres: Postgres, datasets: Sequence[str]) -> dict[str, Readable]:
    """What readers of each dataset see; without those that have nothing to read."""
    rows = await postgres.fetch(_READABLE, list(datasets))
    return {row["dataset"]: Readable(**dict(row)) for row in rows}


async def batches_applied(
    postgres: Postgres, generation: int, *, limit: int
) -> tuple[list[AppliedBatch], int]:
    """The newest batches that a generation applied on top of its parent, and how many they are in all."""
    rows = await postgres.fetch(_APPLIED, generation, limit)
    batches = [AppliedBatch(**{name: row[name] for name in AppliedBatch.__struct_fields__}) for row in rows]
    return batches, rows[0]["in_all"] if rows else 0
