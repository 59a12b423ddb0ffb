"""Rules about the candidate as a whole: each becomes a number, and Great Expectations judges the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from libs.adapters.warehouse import Database
from libs.datasets import CustomRule, Dataset, Expectation, Freshness, TableRule, TableRuleKind, quoted
from libs.errors import Permanent
from services.validator.domain import (
    MARTS_RULE,
    MAX_FAILURES,
    Facts,
    Failure,
    Reconciliation,
    RuleResult,
    Status,
    WatermarkFacts,
    share,
)
from services.validator.judge import Judge, Outcome
from services.validator.rows import as_frame, failures_at, readable

__all__ = ["judge_custom_rules", "judge_freshness", "judge_table_rules"]

_NONE_AT_ALL: Final = Expectation(
    "expect_column_values_to_be_between", {"column": "value", "min_value": 0, "max_value": 0}
)
_SPEECH: Final = {
    TableRuleKind.UNIQUE: "{relation} has {value} rows that repeat another's {columns}",
    TableRuleKind.ROW_COUNT: "{relation} has {value} rows",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """A number to be judged; expectation speaks of the column `value`. said is told if it fails."""

    rule: str
    kind: str
    expectation: Expectation
    value: float | None
    observed: str
    said: str
    error: str | None = None
    evaluated: int | None = None
    unexpected: int | None = None
    tolerance: float | None = None
    failures: Sequence[Failure] = ()


def judge_table_rules(database: Database, dataset: Dataset, facts: Facts, judge: Judge) -> list[RuleResult]:
    """One result per table rule of the contract, and one for the marts being there."""
    measures = [_marts(database, dataset)]
    measures += [_measure(rule, database, dataset, facts) for rule in dataset.table_rules]
    return _judge(measures, judge)


def judge_freshness(freshness: Freshness | None, facts: Facts, judge: Judge) -> list[RuleResult]:
    """Events that were published live, against the time their batch closed; idle where there are none."""
    if freshness is None:
        return []
    part = share(facts.late, facts.live)
    within = Expectation(
        "expect_column_values_to_be_between", {"column": "value", "max_value": freshness.tolerance}
    )
    if not facts.live:
        return [
            RuleResult(
                rule=freshness.name,
                kind="freshness",
                status=Status.NOT_RUN,
                expectation=within.type,
                tolerance=freshness.tolerance,
                observed="no live events",
                evaluated=0,
                unexpected=0,
                detail="replayed and backfilled events are never judged for their age",
                may_be_idle=True,
            )
        ]
    measure = _Measure(
        rule=freshness.name,
        kind="freshness",
        expectation=within,
        value=part,
        observed=f"{part:.2%} late",
        said=f"{facts.late:,} of {facts.live:,} live events were older than {freshness.max_seconds:g} s when "
        f"their batch closed ({part:.2%}), tolerance {freshness.tolerance:.2%}",
        evaluated=facts.live,
        unexpected=facts.late,
        tolerance=freshness.tolerance,
    )
    return _judge([measure], judge)


def judge_custom_rules(database: Database, dataset: Dataset, judge: Judge) -> list[RuleResult]:
    """Expectations that stand in the contract: those that judge rows see the new rows that were kept, those
    that judge a column or a table see all of it."""
    return [_custom(rule, database, dataset, judge) for rule in dataset.custom_rules]


def _judge(measures: Sequence[_Measure], judge: Judge) -> list[RuleResult]:
    import pandas as pd

    ready = [one for one in measures if one.error is None and one.value is not None]
    frame = pd.DataFrame({one.rule: [float(one.value)] for one in ready if one.value is not None})
    asked = [replace(one.expectation, kwargs={**one.expectation.kwargs, "column": one.rule}) for one in ready]
    answers: Mapping[str, Outcome] = dict(
        zip((one.rule for one in ready), judge.judge(frame, asked), strict=True)
    )
    return [_result(one, answers.get(one.rule)) for one in measures]


def _result(measure: _Measure, outcome: Outcome | None) -> RuleResult:
    error = measure.error if outcome is None else outcome.error
    if error is not None:
        status, detail = Status.ERROR, error
    elif outcome is None or not outcome.success:  # no number at all is no number within the bounds
        status, detail = Status.FAIL, measure.said
    else:
        status, detail = Status.PASS, None
    return RuleResult(
        rule=measure.rule,
        kind=measure.kind,
        status=status,
        expectation=measure.expectation.type,
        tolerance=measure.tolerance,
        observed=measure.observed,
        evaluated=measure.evaluated,
        unexpected=measure.unexpected,
        detail=detail,
        failures=measure.failures if status is Status.FAIL else (),
    )


def _marts(database: Database, dataset: Dataset) -> _Measure:
    there = {
        row[0]
        for row in database.rows("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'analytics'")
    }
    missing = sorted(set(dataset.marts) - there)
    return _Measure(
        rule=MARTS_RULE,
        kind="table",
        expectation=_NONE_AT_ALL,
        value=float(len(missing)),
        observed=f"{len(dataset.marts) - len(missing)} of {len(dataset.marts)}",
        said=f"missing from the candidate: {', '.join(missing)}",
    )


def _measure(rule: TableRule, database: Database, dataset: Dataset, facts: Facts) -> _Measure:
    try:
        match rule.kind:
            case TableRuleKind.RECONCILIATION:
                return _reconciled(rule, database, dataset, facts)
            case TableRuleKind.WATERMARK:
                return _watermark(rule, database, dataset, facts)
            case _:
                return _asked(rule, database, dataset)
    except Permanent as error:
        return _unmeasured(rule, str(error))


def _unmeasured(rule: TableRule, why: str) -> _Measure:
    return _Measure(
        rule=rule.name,
        kind="table",
        expectation=rule.expectation,
        value=None,
        observed="",
        said="",
        error=why,
    )


def _asked(rule: TableRule, database: Database, dataset: Dataset) -> _Measure:
    if rule.metric_sql is None:
        return _unmeasured(rule, f"the validator does not know how to measure a rule of kind {rule.kind}")
    value = database.value(rule.metric_sql)
    shown = "no value" if value is None else f"{value:,}" if isinstance(value, int) else f"{value}"
    number = None if value is None else float(value)
    broken = number is None or not rule.comparison.holds(number)
    speech = _SPEECH.get(rule.kind, "{description}: {value}")
    said = speech.format(
        relation=rule.relation,
        value=shown,
        columns=", ".join(rule.columns),
        description=rule.description or rule.name,
    )
    return _Measure(
        rule=rule.name,
        kind="table",
        expectation=rule.expectation,
        value=number,
        observed=shown,
        said=f"{said}, must be {rule.comparison}",
        failures=_culprits(rule, database, dataset) if broken else (),
    )


def _reconciled(rule: TableRule, database: Database, dataset: Dataset, facts: Facts) -> _Measure:
    if facts.parent_replaced:
        return _unmeasured(
            rule,
            "its parent is no longer what readers see, so what it carries can't be counted: it is built anew",
        )
    reconciliation = _reconciliation(database, dataset, facts)
    return _Measure(
        rule=rule.name,
        kind="table",
        expectation=rule.expectation,
        value=float(reconciliation.difference),
        observed=f"{reconciliation.difference:,} rows apart",
        said=str(reconciliation),
        evaluated=reconciliation.raw,
        unexpected=reconciliation.difference,
    )


def _reconciliation(database: Database, dataset: Dataset, facts: Facts) -> Reconciliation:
    staged = int(database.value(f"SELECT count(*) FROM {dataset.staging_table}"))
    rejected = int(database.value(f"SELECT count(*) FROM {dataset.rejected_table}"))
    superseded = int(
        database.value("SELECT coalesce(sum(value), 0) FROM meta.counts WHERE name = 'superseded'")
    )
    added = {
        row[0]: int(row[1])
        for row in database.rows(
            "SELECT m.batch_id, sum(m.raw_rows) FROM meta.batches m "
            "JOIN temp.judged_batches b ON b.batch_id = m.batch_id GROUP BY m.batch_id"
        )
    }
    carried, rows = database.rows(
        "SELECT count(*), coalesce(sum(raw_rows), 0) FROM meta.batches "
        "WHERE batch_id NOT IN (SELECT batch_id FROM temp.judged_batches)"
    )[0]
    strays = {
        f"batch {batch}": (count, added.get(batch, 0))
        for batch, count in facts.raw_counts.items()
        if added.get(batch, 0) != count
    }
    if int(rows) != facts.carried_rows:
        strays["batches carried from before"] = (facts.carried_rows, int(rows))
    if int(carried) != facts.carried_batches:
        strays["number of batches carried from before"] = (facts.carried_batches, int(carried))
    held = database.rows(
        "SELECT batch_id FROM meta.batches WHERE batch_id IN (SELECT unnest($1::UUID[]))", [list(facts.held)]
    )
    return Reconciliation(
        raw=sum(facts.raw_counts.values()) + facts.carried_rows,
        staged=staged,
        rejected=rejected,
        superseded=superseded,
        strays=strays,
        held=[row[0] for row in held],
    )


def _watermark(rule: TableRule, database: Database, dataset: Dataset, facts: Facts) -> _Measure:
    latest = database.value(
        f"SELECT max(event_time) FROM (SELECT event_time FROM {dataset.staging_table} "
        f"UNION ALL SELECT event_time FROM {dataset.rejected_table})"
    )
    watermark = WatermarkFacts(latest, facts.parent_watermark, facts.parent_lacks)
    return _Measure(
        rule=rule.name,
        kind="table",
        expectation=rule.expectation,
        value=watermark.seconds_back,
        observed=f"{watermark.seconds_back:g} s",
        said=f"the watermark went back: {watermark}",
    )


def _culprits(rule: TableRule, database: Database, dataset: Dataset) -> list[Failure]:
    """The staging rows that a broken rule speaks of, if it speaks of rows: repeated or empty values."""
    if rule.relation != dataset.staging_table or not rule.columns:
        return []
    names = ", ".join(quoted(name) for name in rule.columns)
    match rule.kind:
        case TableRuleKind.UNIQUE:
            where = (
                f"({names}) IN (SELECT ({names}) FROM {rule.relation} GROUP BY {names} HAVING count(*) > 1)"
            )
        case TableRuleKind.VALUES:
            where = " OR ".join(f"{quoted(name)} IS NULL" for name in rule.columns)
        case _:
            return []
    rows = database.rows(
        f"SELECT source_system, event_id, CAST({quoted(dataset.key.name)} AS VARCHAR), "
        f"left(CAST(({names}) AS VARCHAR), 200) FROM {rule.relation} WHERE {where} "
        f"ORDER BY source_system, event_id LIMIT {MAX_FAILURES}"
    )
    found = {(source, event): Failure(source, event, key, seen) for source, event, key, seen in rows}
    return list(found.values())


def _custom(rule: CustomRule, database: Database, dataset: Dataset, judge: Judge) -> RuleResult:
    expectation = rule.expectation
    tolerance = None if expectation.mostly is None else 1 - expectation.mostly
    try:
        outcome, failures = _ask(rule, database, dataset, judge)
    except Permanent as error:
        outcome, failures = Outcome(None, error=str(error)), []
    if outcome.error is not None:
        status, detail = Status.ERROR, outcome.error
    elif outcome.success:
        status, detail = Status.PASS, None
    else:
        status, detail = Status.FAIL, _broken(rule, outcome)
    return RuleResult(
        rule=rule.name,
        kind="custom",
        status=status,
        expectation=expectation.type,
        tolerance=tolerance,
        observed=outcome.observed or (None if outcome.unexpected is None else f"{outcome.unexpected:,} rows"),
        evaluated=outcome.evaluated,
        unexpected=outcome.unexpected,
        detail=detail,
        failures=failures,
    )


def _broken(rule: CustomRule, outcome: Outcome) -> str:
    if outcome.unexpected is not None:
        return f"{outcome.unexpected:,} of {outcome.evaluated or 0:,} rows of {rule.relation} break it"
    # The detail is logged and sent to people: a number may be told, a text may be anybody's data.
    seen = (
        f"observed {outcome.observed}" if outcome.is_number else "what was observed is not what it asks for"
    )
    return f"{rule.relation}: {seen}"


def _ask(
    rule: CustomRule, database: Database, dataset: Dataset, judge: Judge
) -> tuple[Outcome, list[Failure]]:
    scope = judge.scope(rule.expectation.type)
    if scope is None:
        return judge.unknown(rule.expectation), []
    types = database.columns(rule.relation)
    if not types:
        raise Permanent(f"there is no {rule.relation} in the candidate")
    columns = [name for name in (rule.columns or types) if name in types]
    staged = rule.relation == dataset.staging_table
    selected = [readable(name, types[name].startswith("DECIMAL"), prefix="s.") for name in columns]
    if staged:
        key = quoted(dataset.key.name)
        selected += [
            "s.source_system AS __source",
            "s.event_id AS __event",
            f"CAST(s.{key} AS VARCHAR) AS __key",
        ]
    only_new = "JOIN temp.judged_batches b ON b.batch_id = s.batch_id" if staged and scope.rows else ""
    table = database.arrow(f"SELECT {', '.join(selected)} FROM {rule.relation} s {only_new}").read_all()
    outcome = judge.judge(as_frame(table, columns), [rule.expectation])[0]
    if outcome.error is not None and (missing := set(rule.columns) - set(types)):
        outcome = replace(outcome, error=f"{rule.relation} has no column {', '.join(sorted(missing))}")
    if not staged:
        return outcome, []
    shown = rule.columns[0] if rule.columns else None
    return outcome, failures_at(table, list(outcome.positions)[:MAX_FAILURES], shown)
