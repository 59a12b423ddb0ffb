"""Great Expectations expectations written in a contract: `type: custom, engine: greatExpectations`."""

from __future__ import annotations

import difflib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Final

from libs.datasets.checks import Check
from libs.datasets.model import CustomRule, Expectation

__all__ = ["custom_rule", "known_expectations"]

_ENGINES: Final = {"greatexpectations", "great-expectations", "great_expectations"}
_COLUMN_ARGUMENTS: Final = ("column", "column_A", "column_B")
_COLUMN_LISTS: Final = ("column_list", "column_set")
_KEYS: Final = {"type", "expectation_type", "kwargs", "meta"}
_SHAPE: Final = "implementation: {type: expect_column_values_to_be_in_set, kwargs: {value_set: [a, b]}}"


def custom_rule(check: Check) -> CustomRule | None:
    """The rule, or None after telling what is wrong with it."""
    engine, body = str(check.body["engine"]), check.body["implementation"]
    if engine.lower() not in _ENGINES:
        check.fault("engine", f"engine `{engine}` is not here", "engine: greatExpectations")
        return None
    if not isinstance(body, dict):
        check.fault("implementation", "the implementation is text", _SHAPE)
        return None
    fault = _fault(body)
    if fault is not None:
        check.fault("implementation", *fault)
        return None
    kwargs = dict(body.get("kwargs", {}))
    mostly = kwargs.pop("mostly", None)
    column = check.scope.column
    if column is not None and not any(name in kwargs for name in (*_COLUMN_ARGUMENTS, *_COLUMN_LISTS)):
        kwargs["column"] = column.name
    kind = str(body.get("type", body.get("expectation_type")))
    judge = Expectation(kind, kwargs, mostly=None if mostly is None else float(mostly))
    return CustomRule(check.name, check.scope.relation, judge, _columns(kwargs), check.description)


def _fault(body: dict[str, Any]) -> tuple[str, str] | None:
    unknown = sorted(set(body) - _KEYS)
    kind, kwargs = body.get("type", body.get("expectation_type")), body.get("kwargs", {})
    if unknown:
        return f"unknown key `{unknown[0]}`", _SHAPE
    if not isinstance(kind, str):
        return "no expectation type", _SHAPE
    if not isinstance(kwargs, dict):
        return "kwargs are no mapping", _SHAPE
    known = known_expectations()
    if known and kind not in known:
        close = difflib.get_close_matches(kind, known, n=1)
        return f"Great Expectations has no `{kind}`", f"type: {close[0]}" if close else _SHAPE
    mostly = kwargs.get("mostly", 1)
    if isinstance(mostly, bool) or not isinstance(mostly, int | float) or not 0 <= mostly <= 1:
        return "mostly is a share", "mostly: 0.98 (0 to 1)"
    return None


def _columns(kwargs: dict[str, Any]) -> tuple[str, ...]:
    named = [str(kwargs[name]) for name in _COLUMN_ARGUMENTS if name in kwargs]
    for name in _COLUMN_LISTS:
        named.extend(str(column) for column in kwargs.get(name) or [])
    return tuple(dict.fromkeys(named))


@cache
def known_expectations() -> frozenset[str]:
    """The installed Great Expectations' expectations, read from its files: importing it takes seconds."""
    spec = importlib.util.find_spec("great_expectations")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    core = Path(spec.submodule_search_locations[0]) / "expectations" / "core"
    return frozenset(file.stem for file in core.glob("expect_*.py"))
