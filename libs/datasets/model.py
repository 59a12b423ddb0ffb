"""What a dataset is, once its folder has been read: values only, no file, no driver.

Grain of everything below: one Dataset per folder {contract.yaml, staging.sql, marts/*.sql}.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

__all__ = [
    "LANDED_COLUMNS",
    "RAW_COLUMNS_AFTER",
    "RAW_COLUMNS_BEFORE",
    "Column",
    "ColumnType",
    "Comparison",
    "CustomRule",
    "Dataset",
    "Expectation",
    "Freshness",
    "RowRule",
    "RowRuleKind",
    "TableRule",
    "TableRuleKind",
    "Value",
    "quoted",
]

Value = str | int | bool | Decimal | date | datetime

RAW_COLUMNS_BEFORE: Final[tuple[tuple[str, str, bool], ...]] = (
    ("id", "bigint", False),
    ("event_id", "text", False),
)
"""(name, Postgres type, nullable) of the RAW columns that stand before the contract's own."""

RAW_COLUMNS_AFTER: Final[tuple[tuple[str, str, bool], ...]] = (
    ("ingested_at", "timestamp with time zone", False),
    ("batch_id", "uuid", False),
    ("source_system", "text", False),
    ("raw_payload", "jsonb", False),
    ("event_time", "timestamp with time zone", False),
    ("event_type", "text", True),
    ("subject", "text", True),
    ("dataschema", "text", True),
    ("traceparent", "text", True),
    ("origin", "text", False),
    ("extensions", "jsonb", True),
    ("stream_entry_id", "text", False),
    ("stream_position", "integer", False),
)

LANDED_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("event_id", "VARCHAR"),
    ("source_system", "VARCHAR"),
    ("event_time", "TIMESTAMP WITH TIME ZONE"),
    ("batch_id", "UUID"),
)
"""(name, DuckDB type) of what the relation `landed` carries beside the contract's columns."""


def quoted(identifier: str) -> str:
    """The identifier as SQL reads it literally, in Postgres and in DuckDB."""
    return '"' + identifier.replace('"', '""') + '"'


class ColumnType(enum.StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True, slots=True)
class Column:
    """One field of the event's data and the column it lands in.

    field is the JSON key, name the column. precision and scale are set for numbers only.
    """

    field: str
    name: str
    type: ColumnType
    required: bool
    precision: int | None = None
    scale: int | None = None
    description: str | None = None

    @property
    def postgres_type(self) -> str:
        """As `format_type` spells it, so that it can be compared with a table that exists."""
        if self.type is ColumnType.NUMBER:
            return f"numeric({self.precision},{self.scale})"
        return _POSTGRES[self.type]

    @property
    def duckdb_type(self) -> str:
        if self.type is ColumnType.NUMBER:
            return f"DECIMAL({self.precision},{self.scale})"
        return _DUCKDB[self.type]


_POSTGRES: Final = {
    ColumnType.STRING: "text",
    ColumnType.INTEGER: "bigint",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.DATE: "date",
    ColumnType.TIMESTAMP: "timestamp with time zone",
}
_DUCKDB: Final = {
    ColumnType.STRING: "VARCHAR",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.DATE: "DATE",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """A Great Expectations expectation as plain data.

    type is in snake case (`expect_column_values_to_be_between`); kwargs are what its class takes, without
    `mostly`. mostly is the share of rows that must pass, None where the expectation has no such argument.
    """

    type: str
    kwargs: Mapping[str, object]
    mostly: float | None = None


class RowRuleKind(enum.StrEnum):
    """Which expectation judges it, and what breaks it.

    | kind         | expectation                               | broken when                            |
    |--------------|-------------------------------------------|----------------------------------------|
    | not_null     | expect_column_values_to_not_be_null       | the value is NULL                      |
    | range        | expect_column_values_to_be_between        | outside the bounds, or at a strict one |
    | valid_values | expect_column_values_to_be_in_set         | not one of the values                  |
    | pattern      | expect_column_values_to_match_regex       | the whole value does not match         |
    | length       | expect_column_value_lengths_to_be_between | fewer or more code points              |

    NULL breaks not_null only.
    """

    NOT_NULL = "not_null"
    RANGE = "range"
    VALID_VALUES = "valid_values"
    PATTERN = "pattern"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class RowRule:
    """What each row must keep. tolerance is the share (0..1) of the new rows that may break it, of those that
    carry a value (as `mostly` counts; not_null counts every row).

    broken_sql is DuckDB SQL over the columns of a staging row: TRUE when the row breaks the rule, otherwise
    FALSE, never NULL. expectation finds exactly those rows; its kwargs hold typed values (Decimal, date,
    aware datetime).
    """

    name: str
    column: Column
    kind: RowRuleKind
    tolerance: float
    broken_sql: str
    expectation: Expectation
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The bounds a number must keep; a bound of None is open."""

    minimum: float | None = None
    maximum: float | None = None
    strict_minimum: bool = False
    strict_maximum: bool = False

    def holds(self, value: float) -> bool:
        low, high = self.minimum, self.maximum
        above = low is None or (value > low if self.strict_minimum else value >= low)
        below = high is None or (value < high if self.strict_maximum else value <= high)
        return above and below

    def __str__(self) -> str:
        if self.minimum is not None and self.minimum == self.maximum:
            return f"= {self.minimum:g}"
        low = None if self.minimum is None else f"{'>' if self.strict_minimum else '≥'} {self.minimum:g}"
        high = None if self.maximum is None else f"{'<' if self.strict_maximum else '≤'} {self.maximum:g}"
        return " and ".join(bound for bound in (low, high) if bound is not None)


class TableRuleKind(enum.StrEnum):
    """Where the number of a table rule comes from.

    unique, row_count, values and sql: `TableRule.metric_sql`, one number from the candidate file.
    reconciliation: RAW rows − (staging + rejected + superseded + held), must be 0; the validator counts.
    watermark: seconds by which the candidate's greatest event_time lies before its parent's, must be ≤ 0.
    """

    UNIQUE = "unique"
    ROW_COUNT = "row_count"
    VALUES = "values"
    SQL = "sql"
    RECONCILIATION = "reconciliation"
    WATERMARK = "watermark"


@dataclass(frozen=True, slots=True)
class TableRule:
    """What the candidate as a whole must keep; no tolerance: broken, it blocks.

    metric_sql is DuckDB SQL giving one row with one number (a NULL breaks the rule); None for the two
    built-in kinds that need Postgres or the parent. relation is `staging.<dataset>` or `analytics.<mart>`,
    columns those of it that the rule speaks of (for naming failing rows). expectation judges a one-row frame
    whose column `value` holds the number.
    """

    name: str
    kind: TableRuleKind
    comparison: Comparison
    metric_sql: str | None
    relation: str
    columns: tuple[str, ...] = ()
    description: str | None = None

    @property
    def expectation(self) -> Expectation:
        kwargs: dict[str, object] = {
            "column": "value",
            "min_value": self.comparison.minimum,
            "max_value": self.comparison.maximum,
            "strict_min": self.comparison.strict_minimum,
            "strict_max": self.comparison.strict_maximum,
        }
        return Expectation("expect_column_values_to_be_between", kwargs)


@dataclass(frozen=True, slots=True)
class CustomRule:
    """A Great Expectations expectation written in the contract (`type: custom, engine: greatExpectations`).

    relation is `staging.<dataset>` or `analytics.<mart>`, as the place of the rule in the contract says.
    kwargs are the contract's, `column` filled in for a rule that stands at a property. columns are those that
    kwargs name: what the validator must load (empty: all of the relation).
    """

    name: str
    relation: str
    expectation: Expectation
    columns: tuple[str, ...] = ()
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """For live events: at most `tolerance` (share, 0..1) of a batch's new rows may be older than
    `max_seconds` (batch closed_at − event_time)."""

    max_seconds: float
    tolerance: float
    name: str = "freshness"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset, ready for use by every service.

    version is the contract's (semantic); dataschema is `urn:drp:<name>:v<major>`. staging_sql is a SELECT
    over `landed`; marts maps the mart's name to its SELECT over `staging.<name>`; none ends in a semicolon.
    event_time is the field that says when the event happened, for producers that read files. table_rules
    include the built-in ones. fingerprint is the sha256 of the folder's contract and SQL.
    """

    name: str
    stream: str
    version: str
    dataschema: str
    columns: tuple[Column, ...]
    key: Column
    event_time: Column | None
    row_rules: tuple[RowRule, ...]
    table_rules: tuple[TableRule, ...]
    custom_rules: tuple[CustomRule, ...]
    freshness: Freshness | None
    staging_sql: str
    marts: Mapping[str, str]
    path: Path
    fingerprint: str
    description: str | None = None
    mart_descriptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def raw_table(self) -> str:
        """Unquoted; safe to use as it is, for a dataset's name is an identifier in lower case."""
        return f"raw.{self.name}_raw"

    @property
    def staging_table(self) -> str:
        return f"staging.{self.name}"

    @property
    def rejected_table(self) -> str:
        return f"staging.{self.name}_rejected"

    @property
    def landed_columns(self) -> tuple[tuple[str, str], ...]:
        """(name, DuckDB type) of the relation `landed`: the contract's columns, then LANDED_COLUMNS."""
        return (*((column.name, column.duckdb_type) for column in self.columns), *LANDED_COLUMNS)

    def column(self, name: str) -> Column:
        """The column of that name (not field).

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)
