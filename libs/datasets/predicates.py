"""A row rule as DuckDB SQL and as an expectation: two spellings of one condition."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from libs.datasets.model import Column, ColumnType, Expectation, RowRuleKind, Value, quoted
from libs.datasets.patterns import common_pattern, python_regex

__all__ = ["broken_sql", "expectation", "literal", "read_arguments", "typed"]

Arguments = Mapping[str, Any]
"""Keyed as in the contract: minimum, exclusiveMinimum, maximum, exclusiveMaximum, validValues, pattern (in
the common spelling), minLength, maxLength; values typed."""


def typed(value: object, column: Column) -> Value:
    """A value of the contract as the column's Python type: str, int, Decimal, bool, date or aware datetime.

    Raises:
        ValueError: it is none, or has more digits than the column; says what would be.
    """
    match column.type:
        case ColumnType.STRING if isinstance(value, str):
            return value
        case ColumnType.BOOLEAN if isinstance(value, bool):
            return value
        case ColumnType.INTEGER if isinstance(value, int) and not isinstance(value, bool):
            return value
        case ColumnType.NUMBER if isinstance(value, int | float | str) and not isinstance(value, bool):
            return _decimal(value, column)
        case ColumnType.DATE if isinstance(value, str):
            return dt.date.fromisoformat(value)
        case ColumnType.TIMESTAMP if isinstance(value, str):
            moment = dt.datetime.fromisoformat(value)
            return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
        case _:
            raise ValueError(f"{column.name} is a {column.type}")


def _decimal(value: object, column: Column) -> Decimal:
    text = str(value)
    if not re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d{1,3})?", text, re.ASCII):
        raise ValueError(f"{column.name} is a number")
    number = Decimal(text).normalize()
    _, digits, exponent = number.as_tuple()
    scale, precision = column.scale or 0, column.precision or 0
    if not isinstance(exponent, int) or -exponent > scale or len(digits) + exponent > precision - scale:
        raise ValueError(f"{text} has more digits than numeric({precision},{scale})")
    try:
        return number.quantize(Decimal(1).scaleb(-scale))
    except InvalidOperation as error:
        raise ValueError(f"{text} has more digits than numeric({precision},{scale})") from error


def literal(value: Value, column: Column) -> str:
    """The value as a DuckDB literal of the column's type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"CAST('{value:f}' AS {column.duckdb_type})"
    if isinstance(value, int):
        return f"CAST({value} AS BIGINT)"
    if isinstance(value, dt.datetime):
        return f"TIMESTAMPTZ '{value.isoformat(sep=' ')}'"
    if isinstance(value, dt.date):
        return f"DATE '{value.isoformat()}'"
    return "'" + value.replace("'", "''") + "'"


def broken_sql(kind: RowRuleKind, arguments: Arguments, column: Column) -> str:
    """TRUE when the row breaks the rule, otherwise FALSE, never NULL."""
    name = quoted(column.name)
    if kind is RowRuleKind.NOT_NULL:
        return f"({name} IS NULL)"
    match kind:
        case RowRuleKind.RANGE:
            signs = {"minimum": "<", "exclusiveMinimum": "<=", "maximum": ">", "exclusiveMaximum": ">="}
            broken = " OR ".join(
                f"{name} {sign} {literal(arguments[bound], column)}"
                for bound, sign in signs.items()
                if bound in arguments
            )
        case RowRuleKind.VALID_VALUES:
            values = ", ".join(literal(value, column) for value in arguments["validValues"])
            broken = f"{name} NOT IN ({values})"
        case RowRuleKind.PATTERN:
            pattern = arguments["pattern"].replace("'", "''")
            broken = f"NOT regexp_full_match({name}, '{pattern}')"
        case RowRuleKind.LENGTH:
            broken = " OR ".join(
                f"length({name}) {sign} {arguments[bound]}"
                for bound, sign in {"minLength": "<", "maxLength": ">"}.items()
                if bound in arguments
            )
    return f"({name} IS NOT NULL AND ({broken}))"


def expectation(kind: RowRuleKind, arguments: Arguments, column: Column, tolerance: float) -> Expectation:
    """What finds exactly the rows for which broken_sql is TRUE."""
    kwargs: dict[str, object] = {"column": column.name}
    match kind:
        case RowRuleKind.NOT_NULL:
            name = "expect_column_values_to_not_be_null"
        case RowRuleKind.RANGE:
            name = "expect_column_values_to_be_between"
            kwargs |= {
                "min_value": arguments.get("minimum", arguments.get("exclusiveMinimum")),
                "max_value": arguments.get("maximum", arguments.get("exclusiveMaximum")),
                "strict_min": "exclusiveMinimum" in arguments,
                "strict_max": "exclusiveMaximum" in arguments,
            }
        case RowRuleKind.VALID_VALUES:
            name = "expect_column_values_to_be_in_set"
            kwargs["value_set"] = list(arguments["validValues"])
        case RowRuleKind.PATTERN:
            name = "expect_column_values_to_match_regex"
            kwargs["regex"] = python_regex(arguments["pattern"])
        case RowRuleKind.LENGTH:
            name = "expect_column_value_lengths_to_be_between"
            kwargs |= {"min_value": arguments.get("minLength"), "max_value": arguments.get("maxLength")}
    return Expectation(name, kwargs, mostly=round(1 - tolerance, 12))


def read_arguments(given: Mapping[str, Any], column: Column) -> tuple[RowRuleKind, dict[str, Any]]:
    """The kind of an invalidValues rule and its typed arguments.

    Raises:
        ValueError: unknown, mixed or contradicting arguments, or values of another type than the column's.
    """
    kinds = {_KINDS[name] for name in given if name in _KINDS}
    unknown = sorted(set(given) - set(_KINDS))
    if unknown:
        raise ValueError(f"unknown argument `{unknown[0]}`")
    if len(kinds) != 1:
        raise ValueError("several conditions in one rule" if kinds else "no condition")
    (kind,) = kinds
    match kind:
        case RowRuleKind.RANGE:
            return kind, _range(given, column)
        case RowRuleKind.LENGTH:
            return kind, _lengths(given, column)
        case RowRuleKind.PATTERN:
            return kind, {"pattern": _pattern(given["pattern"], column)}
        case _:
            values = given["validValues"]
            if not isinstance(values, list) or not values:
                raise ValueError("validValues is a list with at least one value")
            return kind, {"validValues": [typed(value, column) for value in values]}


_KINDS = {
    "minimum": RowRuleKind.RANGE,
    "exclusiveMinimum": RowRuleKind.RANGE,
    "maximum": RowRuleKind.RANGE,
    "exclusiveMaximum": RowRuleKind.RANGE,
    "validValues": RowRuleKind.VALID_VALUES,
    "pattern": RowRuleKind.PATTERN,
    "minLength": RowRuleKind.LENGTH,
    "maxLength": RowRuleKind.LENGTH,
}


def _range(given: Mapping[str, Any], column: Column) -> dict[str, Any]:
    if column.type in {ColumnType.STRING, ColumnType.BOOLEAN}:
        raise ValueError(f"{column.name} is a {column.type}, which has no order here")
    bounds = {name: typed(value, column) for name, value in given.items()}
    for bound, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if bound in bounds and strict in bounds:
            raise ValueError(f"both {bound} and {strict}")
    low: Any = bounds.get("minimum", bounds.get("exclusiveMinimum"))
    high: Any = bounds.get("maximum", bounds.get("exclusiveMaximum"))
    if low is not None and high is not None and low > high:
        raise ValueError("the minimum is above the maximum")
    return bounds


def _lengths(given: Mapping[str, Any], column: Column) -> dict[str, Any]:
    if column.type is not ColumnType.STRING:
        raise ValueError(f"{column.name} is a {column.type}, which has no length")
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} is a whole number from 0")
    if given.get("minLength", 0) > given.get("maxLength", given.get("minLength", 0)):
        raise ValueError("minLength is above maxLength")
    return dict(given)


def _pattern(pattern: object, column: Column) -> str:
    if column.type is not ColumnType.STRING or not isinstance(pattern, str):
        raise ValueError(f"a pattern is text and judges text; {column.name} is a {column.type}")
    return common_pattern(pattern)
