"""The properties of the contract's schema object, as columns."""

from __future__ import annotations

import re
from typing import Any, Final

from libs.datasets.document import Findings, Place
from libs.datasets.model import RAW_COLUMNS_AFTER, RAW_COLUMNS_BEFORE, Column, ColumnType

__all__ = ["IDENTIFIER", "RAW_NAMES", "read_columns", "read_key"]

IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_NUMERIC: Final = re.compile(r"(?:numeric|decimal)\s*\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)", re.IGNORECASE)
_PHYSICAL: Final = {
    ColumnType.STRING: ("text", frozenset({"text", "varchar", "character varying"})),
    ColumnType.INTEGER: ("bigint", frozenset({"bigint", "int8"})),
    ColumnType.BOOLEAN: ("boolean", frozenset({"boolean", "bool"})),
    ColumnType.DATE: ("date", frozenset({"date"})),
    ColumnType.TIMESTAMP: ("timestamptz", frozenset({"timestamptz", "timestamp with time zone"})),
}
_PRECISION_LIMIT: Final = 38
RAW_NAMES: Final = frozenset(
    {name for name, _, _ in (*RAW_COLUMNS_BEFORE, *RAW_COLUMNS_AFTER)} | {"rule", "rules"}
)
_TYPES: Final = ", ".join(ColumnType)
_OPTIONS: Final = {"timezone", "defaultTimezone"}


def read_columns(
    properties: Any, place: Place, findings: Findings, taken: frozenset[str] = RAW_NAMES
) -> tuple[tuple[Place, Column], ...]:
    """The columns that can be read, each with its place; what cannot goes to the findings."""
    columns: list[tuple[Place, Column]] = []
    fields: set[str] = set()
    names: set[str] = set()
    for index, prop in enumerate(properties or []):
        at = (*place, index)
        column = _column(prop, at, findings, taken)
        if column is None:
            continue
        if column.field in fields:
            findings.add((*at, "name"), f"two properties are called `{column.field}`", "each name once")
        elif column.name in names:
            findings.add(at, f"two properties land in column `{column.name}`", "physicalName: another_name")
        fields.add(column.field)
        names.add(column.name)
        columns.append((at, column))
    return tuple(columns)


def read_key(
    columns: tuple[tuple[Place, Column], ...], keys: list[Place], findings: Findings
) -> Column | None:
    """The one column that is the key. keys are the places of properties with `primaryKey: true`."""
    if not columns:
        return None
    if len(keys) != 1:
        place = (*keys[1], "primaryKey") if keys else columns[0][0]
        what = "two primary keys" if keys else "no primary key"
        findings.add(place, f"{what}: a dataset has exactly one", "primaryKey: true at one property only")
        return None
    key = next((column for place, column in columns if place == keys[0]), None)
    if key is None:
        return None
    if not key.required:
        findings.add(keys[0], f"the key `{key.field}` is optional", "required: true")
    if key.type in {ColumnType.NUMBER, ColumnType.BOOLEAN}:
        findings.add(keys[0], f"a {key.type} is no key", "logicalType: string, or integer")
    return key


def _column(prop: dict[str, Any], at: Place, findings: Findings, taken: frozenset[str]) -> Column | None:
    field = prop["name"]
    name = prop.get("physicalName", field)
    if not IDENTIFIER.fullmatch(name):
        instead = re.sub(r"[^a-z0-9_]+", "_", name.lower())[:63] or "a_column"
        findings.add(
            (*at, "physicalName" if "physicalName" in prop else "name"),
            f"column `{name}` is no identifier in lower case",
            f"physicalName: {instead}",
        )
        return None
    if name in taken:
        findings.add(at, f"column `{name}` belongs to the platform", f"physicalName: source_{name}")
        return None
    type_ = _type(prop, at, findings)
    if type_ is None:
        return None
    _refuse_unread(prop, at, findings)
    precision, scale = _digits(prop, type_, at, findings)
    return Column(
        field=field,
        name=name,
        type=type_,
        required=bool(prop.get("required", False)) or bool(prop.get("primaryKey") and "required" not in prop),
        precision=precision,
        scale=scale,
        description=prop.get("description"),
    )


def _type(prop: dict[str, Any], at: Place, findings: Findings) -> ColumnType | None:
    logical = prop.get("logicalType")
    if logical is None:
        findings.add(at, f"`{prop['name']}` has no logicalType", f"logicalType: one of {_TYPES}")
        return None
    if logical in {"object", "array"} or "properties" in prop or "items" in prop:
        findings.add(
            (*at, "logicalType"),
            f"`{prop['name']}` is nested ({logical})",
            "a property for each inner value you need; the whole data stays in raw_payload",
        )
        return None
    if logical not in list(ColumnType):
        findings.add((*at, "logicalType"), f"`{logical}` is not supported", f"logicalType: one of {_TYPES}")
        return None
    return ColumnType(logical)


def _digits(
    prop: dict[str, Any], type_: ColumnType, at: Place, findings: Findings
) -> tuple[int | None, int | None]:
    physical = prop.get("physicalType")
    if type_ is not ColumnType.NUMBER:
        wanted, allowed = _PHYSICAL[type_]
        if physical is not None and physical.lower() not in allowed:
            findings.add(
                (*at, "physicalType"), f"a {type_} is not stored as {physical}", f"physicalType: {wanted}"
            )
        return None, None
    match = _NUMERIC.fullmatch((physical or "").strip())
    if physical is None:
        findings.add(at, f"the number `{prop['name']}` has no physicalType", "physicalType: numeric(12,2)")
    elif match is None:
        findings.add(
            (*at, "physicalType"), f"a number is not stored as {physical}", "physicalType: numeric(12,2)"
        )
    if match is None:
        return 1, 0
    precision, scale = int(match[1]), int(match[2])
    if not 1 <= precision <= _PRECISION_LIMIT or scale > precision:
        findings.add(
            (*at, "physicalType"),
            f"{physical} is out of range",
            f"numeric(p,s) with 1 ≤ p ≤ {_PRECISION_LIMIT} and 0 ≤ s ≤ p",
        )
    return precision, scale


def _refuse_unread(prop: dict[str, Any], at: Place, findings: Findings) -> None:
    """What the standard allows and this platform would not act upon is refused rather than ignored."""
    for option in prop.get("logicalTypeOptions", {}):
        if option not in _OPTIONS:
            findings.add(
                (*at, "logicalTypeOptions", option),
                f"logicalTypeOptions.{option} is not acted upon",
                "a quality rule: metric: invalidValues, arguments: {…}",
            )
    if "enum" in prop:
        findings.add(
            (*at, "enum"),
            "enum is not acted upon",
            "a quality rule: metric: invalidValues, arguments: {validValues: […]}",
        )
