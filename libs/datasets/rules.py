"""The quality rules of a contract, as row rules, table rules and custom expectations.

| in the contract                   | at a property    | at the dataset            | at a mart            |
|-----------------------------------|------------------|---------------------------|----------------------|
| library nullValues, invalidValues | row rule         | refused                   | table rule: how many |
| library duplicateValues           | table rule       | over arguments.properties | table rule           |
| library rowCount                  | refused          | table rule                | table rule           |
| sql                               | table rule       | table rule                | table rule           |
| custom, greatExpectations         | column filled in | custom rule               | custom rule          |

`type: text` is documentation and isn't judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from libs.datasets.checks import Check, Scope, snake
from libs.datasets.custom import custom_rule
from libs.datasets.document import Findings, Place
from libs.datasets.model import (
    Column,
    Comparison,
    CustomRule,
    RowRule,
    RowRuleKind,
    TableRule,
    TableRuleKind,
    quoted,
)
from libs.datasets.predicates import broken_sql, expectation, read_arguments
from libs.datasets.sqltext import find_fault, statement

__all__ = ["BUILT_IN_NAMES", "RuleSet", "Scope", "add_unique", "built_in_rules", "read_rules"]

BUILT_IN_NAMES: Final = frozenset({"raw_reconciles", "watermark_holds", "freshness"})
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_METRICS: Final = "metric: nullValues, invalidValues, duplicateValues or rowCount"
_CONDITIONS: Final = (
    "arguments: one of {minimum, maximum}, {validValues}, {pattern}, {minLength, maxLength}, "
    "typed as the column"
)


@dataclass(slots=True)
class RuleSet:
    """What has been read so far; names are taken for good."""

    row: list[RowRule] = field(default_factory=list)
    table: list[TableRule] = field(default_factory=list)
    custom: list[CustomRule] = field(default_factory=list)
    names: set[str] = field(default_factory=lambda: set(BUILT_IN_NAMES))


def built_in_rules(staging_table: str) -> tuple[TableRule, ...]:
    """The table rules that every dataset keeps without writing them down."""
    return (
        TableRule(
            "raw_reconciles",
            TableRuleKind.RECONCILIATION,
            Comparison(0, 0),
            None,
            staging_table,
            description="RAW rows = staging + rejected + superseded + held",
        ),
        TableRule(
            "watermark_holds",
            TableRuleKind.WATERMARK,
            Comparison(None, 0),
            None,
            staging_table,
            description="the greatest event time is not before the parent generation's",
        ),
    )


def read_rules(entries: Any, place: Place, scope: Scope, rules: RuleSet, findings: Findings) -> None:
    """Add the rules of one `quality` list to `rules`; mistakes go to the findings."""
    for index, body in enumerate(entries or []):
        at = (*place, index)
        kind = body.get("type", "library")
        if kind == "text":
            continue
        check = Check(body, _name(body, scope, at, rules, findings), at, scope, findings)
        if body.get("severity", "error") != "error":
            what = f"severity `{body['severity']}` is not acted upon: every rule can block"
            check.fault("severity", what, "severity: error, and a tolerance in percent")
        if kind == "custom":
            custom = custom_rule(check)
            rules.custom.extend([custom] if custom else [])
        elif kind == "sql":
            rules.table.extend(_sql(check))
        else:
            _library(check, rules)


def add_unique(column: Column, relation: str, rules: RuleSet) -> None:
    """A property's `unique: true` is a rule even if no duplicateValues rule says it again."""
    if not any(rule.kind is TableRuleKind.UNIQUE and rule.columns == (column.name,) for rule in rules.table):
        name = f"{column.name}_unique"
        rules.names.add(name)
        count = _duplicates_sql((column.name,))
        metric = f"SELECT {count} FROM {_table(relation)}"
        rules.table.append(
            TableRule(name, TableRuleKind.UNIQUE, Comparison(0, 0), metric, relation, (column.name,))
        )


def _name(body: dict[str, Any], scope: Scope, at: Place, rules: RuleSet, findings: Findings) -> str:
    default = f"{scope.subject}_{snake(body.get('metric', body.get('type', 'rule')))}"
    key = "name" if "name" in body else "id"
    name = str(body.get(key, default))
    place = (*at, key) if key in body else at
    if not _NAME.fullmatch(name):
        findings.add(place, f"`{name}` is no name for a rule", f"{key}: {snake(name) or default}")
    elif name in rules.names:
        findings.add(place, f"the rule name `{name}` is taken", f"name: {name}_2, or another one")
    rules.names.add(name)
    return name


def _library(check: Check, rules: RuleSet) -> None:
    metric = check.body.get("metric")
    if metric == "rowCount":
        rules.table.extend(_row_count(check))
    elif metric == "duplicateValues":
        rules.table.extend(_duplicates(check))
    elif metric in {"nullValues", "invalidValues"}:
        _values(check, rules)
    else:
        check.fault("metric", f"metric `{metric}` is not supported", _METRICS)


def _values(check: Check, rules: RuleSet) -> None:
    column = check.scope.column
    if column is None:
        check.fault("metric", f"{check.body['metric']} judges one property", "the rule at that property")
        return
    condition = _condition(check, column)
    if condition is None:
        return
    kind, arguments = condition
    broken = broken_sql(kind, arguments, column)
    if check.scope.is_mart:
        count = f"count(*) FILTER (WHERE {broken})"
        rules.table.append(_counted(check, TableRuleKind.VALUES, count, (column.name,)))
        return
    tolerance = check.tolerance()
    judge = expectation(kind, arguments, column, tolerance)
    rules.row.append(RowRule(check.name, column, kind, tolerance, broken, judge, check.description))


def _condition(check: Check, column: Column) -> tuple[RowRuleKind, dict[str, Any]] | None:
    given = check.body.get("arguments", {})
    if check.body["metric"] == "nullValues":
        if given:
            check.fault(
                "arguments", "nullValues takes no arguments", "metric: invalidValues, or no arguments"
            )
        return RowRuleKind.NOT_NULL, {}
    try:
        return read_arguments(given, column)
    except ValueError as error:
        check.fault("arguments", str(error), _CONDITIONS)
        return None


def _row_count(check: Check) -> list[TableRule]:
    if check.scope.column is not None:
        check.fault("metric", "rowCount judges a table", "the rule at the schema object")
        return []
    if check.body.get("unit", "rows") != "rows":
        check.fault("unit", f"rows are not counted in {check.body['unit']}", "unit: rows")
    return [_counted(check, TableRuleKind.ROW_COUNT, "count(*)", ())]


def _duplicates(check: Check) -> list[TableRule]:
    scope = check.scope
    names = scope.columns
    if scope.column is None:
        properties = check.body.get("arguments", {}).get("properties", [])
        unknown = [name for name in properties if name not in scope.fields]
        if unknown or not properties:
            what = (
                f"there is no property `{unknown[0]}`" if unknown else "it does not say of which properties"
            )
            check.fault(None, what, f"arguments: {{properties: [{', '.join(scope.fields)}]}}")
            return []
        names = tuple(scope.fields[name].name for name in properties)
    return [_counted(check, TableRuleKind.UNIQUE, _duplicates_sql(names), names)]


def _duplicates_sql(names: tuple[str, ...]) -> str:
    """How many rows are one too many; rows with a NULL among the columns are left out."""
    first = quoted(names[0])
    if len(names) == 1:
        return f"count({first}) - count(DISTINCT {first})"
    present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in names)
    together = ", ".join(quoted(name) for name in names)
    return f"count(*) FILTER (WHERE {present}) - count(DISTINCT row({together})) FILTER (WHERE {present})"


def _sql(check: Check) -> list[TableRule]:
    scope = check.scope
    query = re.sub(r"\$\{(?:table|object)\}", _table(scope.relation), check.body["query"])
    if scope.column is not None:
        query = re.sub(r"\$\{(?:column|property)\}", quoted(scope.column.name), query)
    left = re.search(r"\$\{\w+\}", query)
    fault = find_fault(query)
    if left:
        check.fault("query", f"`{left.group()}` is not known here", "${table}, and ${column} at a property")
    elif fault:
        check.fault("query", fault[1], fault[2])
    return [
        TableRule(
            check.name,
            TableRuleKind.SQL,
            check.comparison(),
            statement(query),
            scope.relation,
            scope.columns,
            check.description,
        )
    ]


def _counted(check: Check, kind: TableRuleKind, count: str, columns: tuple[str, ...]) -> TableRule:
    if check.body.get("unit") == "percent":
        count = f"coalesce(100.0 * ({count}) / nullif(count(*), 0), 0)"
    relation = check.scope.relation
    metric = f"SELECT {count} FROM {_table(relation)}"
    return TableRule(check.name, kind, check.comparison(), metric, relation, columns, check.description)


def _table(relation: str) -> str:
    return ".".join(quoted(part) for part in relation.split("."))
