"""What a verdict is: four statuses a rule, one word a generation, and the sentence a person reads."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

__all__ = [
    "FILE_RULE",
    "MARTS_RULE",
    "MAX_FAILURES",
    "Candidate",
    "Facts",
    "Failure",
    "NewBatches",
    "Reconciliation",
    "RowsJudged",
    "RuleResult",
    "Status",
    "Verdict",
    "WatermarkFacts",
    "agreement",
    "file_result",
    "message_of",
    "row_result",
    "share",
    "verdict_of",
]

FILE_RULE: Final = "file_intact"
MARTS_RULE: Final = "marts_exist"
"""Rules that every dataset has without its contract saying so."""

MAX_FAILURES: Final = 1000
"""Failing rows kept a rule and generation."""


class Status(enum.StrEnum):
    PASS = "pass"  # noqa: S105 - a status, no password
    FAIL = "fail"
    NOT_RUN = "not run"
    ERROR = "error"


class Verdict(enum.StrEnum):
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that broke a rule, named by its event; observed is the value, shortened."""

    source_system: str
    event_id: str
    business_key: str | None
    observed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """What became of one rule on one candidate.

    kind is row | table | freshness | custom. tolerance is a share (0..1); evaluated and unexpected count
    rows. may_be_idle: `not run` means that there was nothing to judge, not that judging was impossible.
    """

    rule: str
    kind: str
    status: Status
    expectation: str
    tolerance: float | None = None
    observed: str | None = None
    evaluated: int | None = None
    unexpected: int | None = None
    detail: str | None = None
    failures: Sequence[Failure] = ()
    may_be_idle: bool = False

    @property
    def stands_in_the_way(self) -> bool:
        """Whether it keeps the generation from being published. What could not be judged always does."""
        if self.status is Status.NOT_RUN:
            return not self.may_be_idle
        return self.status is not Status.PASS


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A generation that waits for its verdict, as Postgres records it. added are the batches it applied on
    top of its parent (all of them, if kind is `full`)."""

    generation: int
    dataset: str
    kind: str
    parent: int | None
    file: str
    sha256: str
    cause: uuid.UUID
    traceparent: str | None
    started_at: datetime
    added: tuple[uuid.UUID, ...]


@dataclass(frozen=True, slots=True)
class NewBatches:
    """The batches whose rows are judged.

    added: all that the generation applied. unseen: those of them that readers never saw. accepted: those that
    an operator published in spite of the gate; their rows count against no tolerance again.
    """

    added: Sequence[uuid.UUID]
    unseen: Collection[uuid.UUID]
    accepted: Collection[uuid.UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What Postgres knows of a candidate, counted without a look at its file. All times are UTC.

    raw_counts: RAW rows of each added batch. carried_*: the batches that readers see already and that are
    not added here, by the ledger. held: batches that were held before the build began. parent_replaced: the
    parent is not what readers see any more. parent_lacks: the parent carried batches that are held now. live,
    late: RAW rows of unseen batches that were published live, and those of them beyond the contract's
    freshness.
    """

    new: NewBatches
    raw_counts: Mapping[uuid.UUID, int]
    carried_batches: int
    carried_rows: int
    held: Sequence[uuid.UUID]
    parent_replaced: bool
    parent_watermark: datetime | None
    parent_lacks: bool
    live: int
    late: int

    @property
    def rows(self) -> int:
        """RAW rows that the generation applied on top of its parent."""
        return sum(self.raw_counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """RAW, as Postgres counts it, against what the file says it applied. All numbers are rows.

    raw: RAW rows of every batch that belongs into the generation; applied: staged + rejected + superseded of
    the file. strays: per batch (added: counted in RAW; the rest: one sum) where meta.batches says otherwise,
    as batch → (RAW, file). held: batches in the file that were held before it was built.
    """

    raw: int
    staged: int
    rejected: int
    superseded: int
    strays: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    held: Sequence[uuid.UUID] = ()

    @property
    def difference(self) -> int:
        """Rows that don't add up; 0 = every RAW row is in exactly one place."""
        total = abs(self.raw - self.staged - self.rejected - self.superseded)
        return max(total, sum(abs(raw - file) for raw, file in self.strays.values())) + len(self.held)

    def __str__(self) -> str:
        sign = "=" if self.raw == self.staged + self.rejected + self.superseded else "≠"
        parts = [
            f"RAW {self.raw:,} {sign} staged {self.staged:,} + rejected {self.rejected:,} "
            f"+ superseded {self.superseded:,}"
        ]
        parts += [
            f"{name}: RAW {raw:,}, file {file:,}" for name, (raw, file) in list(self.strays.items())[:3]
        ]
        if self.held:
            parts.append(f"held, and in the file all the same: {', '.join(map(str, self.held[:3]))}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class WatermarkFacts:
    """The greatest event times (UTC) of the candidate and of its parent. lacks: the parent carried batches
    that were held since, so the candidate may rightly stop earlier."""

    candidate: datetime | None
    parent: datetime | None
    lacks: bool

    @property
    def seconds_back(self) -> float:
        """Seconds by which the candidate lies before its parent; 0 or less = it did not go back."""
        if self.parent is None or self.lacks:
            return 0.0
        if self.candidate is None:
            return float("inf")
        return (self.parent - self.candidate).total_seconds()

    def __str__(self) -> str:
        if self.parent is None:
            return f"watermark {self.candidate}, no parent to compare with"
        suffix = " (batches that the parent carried are held now: not compared)" if self.lacks else ""
        return f"watermark {self.candidate}, parent's {self.parent}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsJudged:
    """What Great Expectations found of one row rule over the new rows.

    within: its own answer to `mostly`, None if the rows came in several parts (then the sums decide).
    only_found / only_rejected: rows that just one of the two sides calls broken: by the expectation, by SQL.
    """

    evaluated: int
    unexpected: int
    within: bool | None
    only_found: int
    only_rejected: int
    error: str | None = None
    failures: Sequence[Failure] = ()


def share(unexpected: int, evaluated: int) -> float:
    """The share of rows that broke a rule; none of none is 0."""
    return unexpected / evaluated if evaluated else 0.0


def agreement(judged: RowsJudged) -> str | None:
    """Why the gate and the model don't agree; None if both name the same rows."""
    if not judged.only_found and not judged.only_rejected:
        return None
    parts = []
    if judged.only_found:
        parts.append(f"{judged.only_found:,} rows break the rule but the model kept them")
    if judged.only_rejected:
        parts.append(f"{judged.only_rejected:,} rows keep the rule but the model rejected them")
    return f"gate and model disagree: {'; '.join(parts)}"


def row_result(name: str, expectation: str, tolerance: float, judged: RowsJudged) -> RuleResult:
    """A row rule's result: both sides name the same rows, and those are within the tolerance."""
    part = share(judged.unexpected, judged.evaluated)
    within = judged.within if judged.within is not None else part <= tolerance
    apart = agreement(judged)
    if judged.error is not None:
        status, detail = Status.ERROR, judged.error
    elif apart is not None:
        status, detail = Status.FAIL, apart
    elif not within:
        status, detail = (
            Status.FAIL,
            f"{judged.unexpected:,} of {judged.evaluated:,} new rows broke it ({part:.2%}), "
            f"tolerance {tolerance:.2%}",
        )
    else:
        status, detail = Status.PASS, None
    return RuleResult(
        rule=name,
        kind="row",
        status=status,
        expectation=expectation,
        tolerance=tolerance,
        observed=f"{part:.4%}" if judged.evaluated else "no new rows",
        evaluated=judged.evaluated,
        unexpected=judged.unexpected,
        detail=detail,
        failures=judged.failures[:MAX_FAILURES],
    )


def file_result(problem: str | None) -> RuleResult:
    """Whether the file is the one that was built; problem says why not."""
    return RuleResult(
        rule=FILE_RULE,
        kind="table",
        status=Status.PASS if problem is None else Status.ERROR,
        expectation="sha256 as recorded",
        detail=problem,
    )


def verdict_of(results: Sequence[RuleResult]) -> Verdict:
    """`error` if a rule could not be judged, or none was; `fail` if one failed; else `pass`."""
    in_the_way = {result.status for result in results if result.stands_in_the_way}
    if not results or in_the_way & {Status.ERROR, Status.NOT_RUN}:
        return Verdict.ERROR
    return Verdict.FAIL if in_the_way else Verdict.PASS


def message_of(candidate: Candidate, verdict: Verdict, results: Sequence[RuleResult]) -> str:
    """What happened, why, and what to do, for a generation that is not published."""
    blocking = [
        result for result in results if result.stands_in_the_way and result.status is not Status.NOT_RUN
    ]
    why = "; ".join(f"{result.rule} ({result.status}): {result.detail}" for result in blocking[:3])
    more = f" and {len(blocking) - 3} more" if len(blocking) > 3 else ""
    how = "broke its quality gate" if verdict is Verdict.FAIL else "could not be judged"
    seen = "nothing yet" if candidate.parent is None else f"generation {candidate.parent}"
    return (
        f"generation {candidate.generation} of {candidate.dataset} {how} and is not published (readers still "
        f"see {seen}): {why or 'no rule was judged'}{more}. Look: drp quality show {candidate.generation}. "
        f"{_next_step(candidate, verdict)}"
    )


def _next_step(candidate: Candidate, verdict: Verdict) -> str:
    if verdict is Verdict.ERROR:
        return f"Build it again: drp rebuild --dataset {candidate.dataset}"
    batch = str(candidate.added[0]) if len(candidate.added) == 1 else "BATCH"
    return (
        f"Leave the batch out: drp batches hold {batch} --reason …, or publish corrections, or override: "
        f"drp quality accept {candidate.generation} --reason …"
    )
