"""The Open Data Contract Standard 3.1, as its official JSON schema judges a contract."""

from __future__ import annotations

import difflib
import importlib.resources
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from libs.datasets.document import Findings, Place
from libs.datasets.model import ColumnType

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["odcs_schema", "validate"]

_TYPES: Final = ", ".join(ColumnType)


@cache
def odcs_schema() -> dict[str, Any]:
    """The JSON schema that the package open-data-contract-standard brings."""
    file = importlib.resources.files("open_data_contract_standard") / "schema.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def validate(findings: Findings) -> None:
    """Add what the standard's schema finds wrong, the most telling error of each place only."""
    from jsonschema import Draft201909Validator

    validator = Draft201909Validator(odcs_schema())
    errors = [_cause(error) for error in validator.iter_errors(findings.document.content)]
    told: set[Place] = set()
    for error in sorted(errors, key=lambda error: error.validator == "unevaluatedProperties"):
        place: Place = tuple(error.absolute_path)
        if any(known[: len(place)] == place for known in told):
            continue
        told.add(place)
        what, instead, key = _words(error)
        where = _where(findings.document.content, place)
        findings.add((*place, *((key,) if key else ())), f"{where}: {what}", instead)


def _where(content: Any, place: Place) -> str:
    """The place as a person names it: `orders.amount.quality`, positions only where nothing has a name."""
    words: list[str] = []
    for step in place:
        content = content[step]
        if not isinstance(step, int):
            words.append(step)
            continue
        named = content if isinstance(content, dict) else {}
        name = next((str(named[key]) for key in ("name", "property", "id") if key in named), None)
        if name is None:
            words.append(str(step + 1))
        else:
            words[-1] = name
    return ".".join(words) or "the contract"


def _cause(error: ValidationError) -> ValidationError:
    """The error inside allOf/if-then wrappers that a person can act upon."""
    while error.context and error.validator in {"allOf", "if", "anyOf"}:
        error = min(error.context, key=lambda inner: (inner.validator == "type", -len(inner.absolute_path)))
    return error


def _words(error: ValidationError) -> tuple[str, str, str | None]:
    """(what is wrong, what to write instead, the key it is about if it stands in the document)."""
    rule = str(error.validator)
    wanted: Any = error.validator_value
    instance: Any = error.instance
    if list(error.absolute_path)[-2:-1] == ["properties"] and "logicalType" not in instance:
        return "no logicalType", f"logicalType: one of {_TYPES}", None
    if rule == "enum" and error.absolute_path[-1] == "logicalType":
        return f"`{instance}` is not allowed", f"logicalType: one of {_TYPES}", None
    if rule == "required":
        missing = next(name for name in wanted if name not in instance)
        return f"`{missing}` is missing", f"{missing}: …", None
    if rule in {"unevaluatedProperties", "additionalProperties"}:
        return _unknown_key(error)
    if rule in {"enum", "const"}:
        values = wanted if isinstance(wanted, list) else [wanted]
        close = difflib.get_close_matches(str(instance), [str(value) for value in values], n=1)
        return (
            f"`{instance}` is not allowed",
            close[0] if close else "one of " + ", ".join(str(v) for v in values),
            None,
        )
    if rule == "type":
        return f"`{instance}` is not of type {wanted}", f"a value of type {wanted}", None
    if rule == "oneOf" and isinstance(instance, dict):
        return (
            "not exactly one comparison",
            "one of mustBe: 0, mustBeLessOrEqualTo: …, mustBeGreaterOrEqualTo: …",
            None,
        )
    return error.message.split("\n")[0][:200], f"a value that keeps `{rule}: {wanted}`"[:200], None


def _unknown_key(error: ValidationError) -> tuple[str, str, str | None]:
    allowed = _allowed_keys(error)
    instance: Any = error.instance
    unknown = [key for key in instance if key not in allowed] or list(instance)
    key = unknown[0]
    close = difflib.get_close_matches(key, sorted(allowed), n=1)
    instead = close[0] if close else "nothing: leave it out, or move it to customProperties"
    return f"unknown key `{key}`", instead, key


def _allowed_keys(error: ValidationError) -> set[str]:
    schema = error.schema if isinstance(error.schema, dict) else {}
    keys: set[str] = set()
    todo: list[Any] = [schema]
    while todo:
        part = todo.pop()
        if not isinstance(part, dict):
            continue
        keys |= set(part.get("properties", {}))
        if "$ref" in part:
            todo.append(odcs_schema()["$defs"][part["$ref"].rsplit("/", 1)[1]])
        for group in ("allOf", "oneOf", "anyOf"):
            todo.extend(part.get(group, []))
        todo.extend(part[branch] for branch in ("then", "else") if branch in part)
    return keys
