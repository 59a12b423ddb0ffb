"""The files of a new dataset's folder, as text for a person to go on from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from libs.datasets import ColumnType, quoted
from libs.operations.sample import SampledColumn

__all__ = ["DAY", "Draft", "Field", "contract_text", "mart_text", "staging_text"]

DAY: Final = "event_day"
"""The column that staging.sql adds: the mart has a row for each."""

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_TEXT: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_PERCENT: Final = 2


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the sample, and the name that it has in SQL."""

    column: SampledColumn
    name: str
    required: bool
    is_key: bool

    @property
    def type(self) -> ColumnType:
        return self.column.type or ColumnType.STRING

    @property
    def written_type(self) -> str:
        return self.column.physical or str(self.type)

    @property
    def total(self) -> str:
        return f"total_{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What the files say. fields are in the order of the sample's columns."""

    name: str
    sample: str
    rows: int
    fields: Sequence[Field]
    key: Field
    event_time: Field | None
    left_out: Sequence[SampledColumn] = field(default_factory=tuple)

    @property
    def mart(self) -> str:
        return f"{self.name}_by_day"

    @property
    def count(self) -> str:
        return f"number_of_{self.name}"

    @property
    def numbers(self) -> list[Field]:
        return [each for each in self.fields if each.type is ColumnType.NUMBER]


def staging_text(draft: Draft) -> str:
    return (
        f"-- one row per landed event; the platform keeps the newest version of each {draft.key.name}\n"
        "-- add columns here, computed from the row alone: no filter, no join, no clock\n"
        "SELECT\n"
        "    landed.*,\n"
        f"    CAST(timezone('UTC', landed.event_time) AS DATE) AS {DAY}\n"
        "FROM landed\n"
    )


def mart_text(draft: Draft) -> str:
    totals = "".join(
        f"    coalesce(sum({quoted(each.name)}), 0) AS {quoted(each.total)},\n" for each in draft.numbers
    )
    return (
        "-- one row per day (UTC) on which something happened\n"
        "SELECT\n"
        f"    {DAY},\n"
        f"    count(*) AS {draft.count},\n"
        f"{totals}"
        "    max(event_time) AS last_refreshed_at\n"
        f"FROM staging.{draft.name}\n"
        f"GROUP BY {DAY}\n"
        f"ORDER BY {DAY}\n"
    )


def contract_text(draft: Draft) -> str:
    name = draft.name
    lines = [
        "# Open Data Contract Standard 3.1: decoder, RAW table, row rules and quality gate follow from this file.",
        f"# Proposed from {draft.rows:,} rows of {_comment(draft.sample)}. Check it with: drp dataset check FOLDER",
        "apiVersion: v3.1.0",
        "kind: DataContract",
        f"id: urn:drp:{name}",
        f"name: {name}",
        "version: 1.0.0  # a new major version is a new dataschema: urn:drp:NAME:v2",
        "status: draft",
        "description:",
        f"  purpose: What {name} are for, in a sentence.",
        "",
        "schema:",
        f"  - name: {name}",
        "    logicalType: object",
        f"    physicalName: raw.{name}_raw",
        "    physicalType: table",
        f"    description: One event per row of {name}; a later one with the same key is its correction.",
        "    properties:",
    ]
    for each in draft.fields:
        lines += _property(each)
    if draft.left_out:
        left = ", ".join(_comment(column.name) for column in draft.left_out)
        lines.append(f"      # Nested, or of several types, and so only in raw_payload: {left}")
    lines += [
        "    quality:",
        f"      - name: {name}_not_empty",
        "        metric: rowCount",
        "        mustBeGreaterOrEqualTo: 1",
        "",
        *_mart(draft),
        "",
        "# Live events must arrive in time; here at most 10 in 100 may be older than an hour:",
        "# slaProperties:",
        "#   - property: latency",
        "#     value: 3600",
        "#     unit: s",
        f"#     element: {name}",
        "#     customProperties:",
        "#       - property: tolerancePercent",
        "#         value: 10",
        "",
        "customProperties:",
        "  - property: stream  # of Redis, where producers publish",
        f"    value: {name}",
    ]
    if draft.event_time is not None:
        lines += [
            "  - property: eventTimeField  # when a row's event happened, for files and APIs that are published",
            f"    value: {_text(draft.event_time.column.name)}",
        ]
    else:
        lines.append("  # no column says when a row's event happened: drp publish --time says it")
    return "\n".join(lines) + "\n"


def _property(each: Field) -> list[str]:
    column = each.column
    lines = [f"      - name: {_text(column.name)}"]
    if each.name != column.name:
        lines.append(f"        physicalName: {each.name}")
    lines.append(f"        logicalType: {each.type}")
    if column.physical is not None:
        lines.append(f"        physicalType: {column.physical}")
    if each.is_key:
        lines += ["        primaryKey: true", "        primaryKeyPosition: 1"]
    lines.append(
        f"        required: {'true' if each.required else 'false  # some rows of the sample have none'}"
    )
    rules = _rules(each)
    if rules:
        lines += ["        quality:", *rules]
    if column.few and not each.is_key and all(value.isprintable() for value in column.few):
        values = ", ".join(msgspec.json.encode(value).decode() for value in column.few)
        lines.append(
            f"        # A rule that would fit the sample: metric: invalidValues, arguments: {{validValues: [{values}]}}"
        )
    return lines


def _rules(each: Field) -> list[str]:
    rules = []
    if each.required:
        rules += [
            f"          - name: {each.name}_not_null",
            "            metric: nullValues",
            "            mustBe: 0",
        ]
    if each.is_key:
        rules += [
            f"          - name: {each.name}_unique",
            "            metric: duplicateValues",
            "            mustBe: 0",
        ]
    if each.type is ColumnType.NUMBER and each.column.least is not None and each.column.least >= 0:
        rules += [
            f"          - name: {each.name}_not_negative",
            "            metric: invalidValues",
            "            arguments:",
            "              minimum: 0",
            f"            mustBeLessOrEqualTo: {_PERCENT}  # single ones are rejected, more block the batch",
            "            unit: percent",
        ]
    return rules


def _mart(draft: Draft) -> list[str]:
    lines = [
        f"  - name: {draft.mart}",
        "    logicalType: object",
        f"    physicalName: analytics.{draft.mart}",
        "    physicalType: table",
        f"    description: The {draft.name} of each day (UTC).",
        "    properties:",
        f"      - name: {DAY}",
        "        logicalType: date",
        "        required: true",
        "        quality:",
        "          - name: one_row_a_day",
        "            metric: duplicateValues",
        "            mustBe: 0",
        f"      - name: {draft.count}",
        "        logicalType: integer",
        "        required: true",
    ]
    for each in draft.numbers:
        scale = str(each.column.physical).rpartition(",")[2].rstrip(")")
        lines += [
            f"      - name: {each.total}",
            "        logicalType: number",
            f"        physicalType: numeric(38,{scale})",
            "        required: true",
        ]
    compared = [f"mart.{draft.count} - staged.{draft.count}"]
    sums = [f"coalesce(sum({draft.count}), 0) AS {draft.count}"]
    parts = [f"count(*) AS {draft.count}"]
    for each in draft.numbers:
        total = quoted(each.total)
        compared.append(f"mart.{total} - staged.{total}")
        sums.append(f"coalesce(sum({total}), 0) AS {total}")
        parts.append(f"coalesce(sum({quoted(each.name)}), 0) AS {total}")
    return [
        *lines,
        "      - name: last_refreshed_at",
        "        logicalType: timestamp",
        "        required: true",
        "    quality:",
        "      - name: mart_equals_staging",
        "        type: sql",
        "        query: |",
        f"          SELECT {' + '.join(f'abs({each})' for each in compared)}",
        f"          FROM (SELECT {', '.join(sums)} FROM analytics.{draft.mart}) AS mart,",
        f"               (SELECT {', '.join(parts)} FROM staging.{draft.name}) AS staged",
        "        mustBe: 0",
    ]


def _text(text: str) -> str:
    """The text as YAML: as it is, or as JSON has it."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return msgspec.json.encode(text).decode()


def _comment(text: str) -> str:
    """The text without what would end a comment."""
    return " ".join(text.split())
