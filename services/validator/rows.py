"""Row rules: Great Expectations sees every new row, kept and rejected, and must name those SQL rejected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from libs.adapters.warehouse import Database
from libs.datasets import ColumnType, Dataset, RowRule, RowRuleKind, quoted
from services.validator.domain import (
    MAX_FAILURES,
    Failure,
    NewBatches,
    RowsJudged,
    RuleResult,
    row_result,
    share,
)
from services.validator.judge import Judge, Outcome

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["as_frame", "expose_batches", "failures_at", "judge_row_rules", "readable"]

_PIECE: Final = 200_000
"""Rows judged at a time: 0.3 s and some 150 MB, however large the rebuild."""

_LONGEST_VALUE: Final = 200


@dataclass(slots=True)
class _Tally:
    """One rule's sums over the pieces; `all` leaves out accepted batches, `unseen` is new to readers."""

    evaluated: dict[str, int] = field(default_factory=lambda: {"all": 0, "unseen": 0})
    unexpected: dict[str, int] = field(default_factory=lambda: {"all": 0, "unseen": 0})
    own_answers: list[bool | None] = field(default_factory=list)
    only_found: int = 0
    only_rejected: int = 0
    error: str | None = None
    failures: list[Failure] = field(default_factory=list)

    def judged(self, tolerance: float) -> RowsJudged:
        shares = {name: share(self.unexpected[name], count) for name, count in self.evaluated.items()}
        worst = max(shares, key=lambda name: shares[name])
        sole = self.own_answers[0] if len(self.own_answers) == 1 else None
        return RowsJudged(
            evaluated=self.evaluated[worst],
            unexpected=self.unexpected[worst],
            within=sole if sole is not None else all(part <= tolerance for part in shares.values()),
            only_found=self.only_found,
            only_rejected=self.only_rejected,
            error=self.error,
            failures=self.failures,
        )


def expose_batches(database: Database, new: NewBatches) -> None:
    """Make the relation `temp.judged_batches` (batch_id, counted, unseen): one row per added batch."""
    database.run("CREATE TEMP TABLE judged_batches (batch_id UUID, counted BOOLEAN, unseen BOOLEAN)")
    database.run(
        "INSERT INTO temp.judged_batches "
        "SELECT unnest($1::UUID[]), unnest($2::BOOLEAN[]), unnest($3::BOOLEAN[])",
        [
            list(new.added),
            [batch not in new.accepted for batch in new.added],
            [batch in new.unseen for batch in new.added],
        ],
    )


def judge_row_rules(database: Database, dataset: Dataset, judge: Judge) -> list[RuleResult]:
    """One result per row rule of the contract, in its order.

    Raises:
        Permanent: the file lacks a table or a column.
        Transient: the file could not be read this time.
    """
    rules = dataset.row_rules
    tallies = {rule.name: _Tally() for rule in rules}
    for piece in _pieces(database, dataset) if rules else ():
        frame = as_frame(piece, [rule.column.name for rule in rules])
        outcomes = judge.judge(frame, [rule.expectation for rule in rules])
        for index, (rule, outcome) in enumerate(zip(rules, outcomes, strict=True)):
            _add(tallies[rule.name], rule, outcome, _Piece(piece, frame, f"__rule_{index}"))
    return [
        row_result(
            rule.name, rule.expectation.type, rule.tolerance, tallies[rule.name].judged(rule.tolerance)
        )
        for rule in rules
    ]


@dataclass(frozen=True, slots=True)
class _Piece:
    arrow: pa.Table
    frame: pd.DataFrame
    flag: str

    def mask(self, name: str) -> Any:
        return self.arrow.column(name).to_numpy()


def _add(tally: _Tally, rule: RowRule, outcome: Outcome, piece: _Piece) -> None:
    if outcome.error is not None:
        tally.error = outcome.error
        return
    import numpy as np

    found = np.zeros(len(piece.frame), dtype=bool)
    found[list(outcome.positions)] = True
    rejected = piece.mask(piece.flag)
    counted, unseen = piece.mask("__counted"), piece.mask("__unseen")
    whole = bool(counted.all()) and bool(unseen.all())
    tally.own_answers.append(outcome.success if whole else None)
    not_null = rule.kind is RowRuleKind.NOT_NULL
    asked = np.ones(len(found), dtype=bool) if not_null else piece.frame[rule.column.name].notna().to_numpy()
    for name, part in (("all", counted), ("unseen", unseen)):
        tally.evaluated[name] += int((asked & part).sum())
        tally.unexpected[name] += int((found & part).sum())
    tally.only_found += int((found & ~rejected).sum())
    tally.only_rejected += int((rejected & ~found).sum())
    room = MAX_FAILURES - len(tally.failures)
    positions = np.flatnonzero(found | rejected)[:room]
    tally.failures += failures_at(piece.arrow, positions.tolist(), rule.column.name)


def _pieces(database: Database, dataset: Dataset) -> Iterator[pa.Table]:
    """New rows, kept and rejected: judged columns, who they are, and the rules SQL says they break."""
    import pyarrow as pa

    types = {rule.column.name: rule.column.type for rule in dataset.row_rules}
    columns = ", ".join(
        readable(name, kind is ColumnType.NUMBER, prefix="s.") for name, kind in types.items()
    )
    names = ", ".join(quoted(name) for name in dict.fromkeys([*types, dataset.key.name]))
    flags = ", ".join(
        f"coalesce(list_contains(s.rules, {_literal(rule.name)}), false) AS __rule_{index}"
        for index, rule in enumerate(dataset.row_rules)
    )
    rows = f"{names}, source_system, event_id, batch_id"
    reader = database.arrow(
        f"SELECT {columns}, {flags}, b.counted AS __counted, b.unseen AS __unseen, "
        f"s.source_system AS __source, s.event_id AS __event, "
        f"CAST(s.{quoted(dataset.key.name)} AS VARCHAR) AS __key "
        f"FROM (SELECT {rows}, NULL::VARCHAR[] AS rules FROM {dataset.staging_table} "
        f"UNION ALL SELECT {rows}, rules FROM {dataset.rejected_table}) s "
        "JOIN temp.judged_batches b ON b.batch_id = s.batch_id",
        batch_rows=_PIECE,
    )
    held: list[pa.RecordBatch] = []
    for batch in reader:
        held.append(batch)
        if sum(one.num_rows for one in held) >= _PIECE:
            yield pa.Table.from_batches(held)
            held = []
    if sum(one.num_rows for one in held):
        yield pa.Table.from_batches(held)


def readable(name: str, is_number: bool, *, prefix: str = "") -> str:
    """A column as pandas compares it fast: exact numbers become doubles, which keep 15 digits apart.

    An amount of more digits could be taken for its bound; the two sides would then disagree, and say so.
    """
    column = f"{prefix}{quoted(name)}"
    return f"CAST({column} AS DOUBLE) AS {quoted(name)}" if is_number else f"{column} AS {quoted(name)}"


def as_frame(table: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    """The columns for Great Expectations; row n of the frame is row n of the table."""
    frame: pd.DataFrame = table.select(list(dict.fromkeys(columns))).to_pandas(
        integer_object_nulls=True, date_as_object=True
    )
    return frame


def failures_at(table: pa.Table, positions: Sequence[int], column: str | None) -> list[Failure]:
    """Who stands at those rows of a table that carries __source, __event and __key."""
    chosen: Mapping[str, list[Any]] = table.take(list(positions)).to_pydict() if positions else {}
    values = chosen.get(column or "", [None] * len(positions))
    return [
        Failure(
            source_system=source,
            event_id=event,
            business_key=key,
            observed=None if value is None else str(value)[:_LONGEST_VALUE],
        )
        for source, event, key, value in zip(
            chosen.get("__source", ()),
            chosen.get("__event", ()),
            chosen.get("__key", ()),
            values,
            strict=False,
        )
    ]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
