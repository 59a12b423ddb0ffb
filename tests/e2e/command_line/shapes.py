"""The shape of a JSON document: its keys, and of which kind their values are, whatever they are today."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["differences", "shape_of"]

Shape = str | dict[str, Any] | list[Any]

NOTHING: Final = "null"
OPEN: Final = {"attributes", "detail"}
"""Objects that hold what each span, or each action, has to say."""
_TEXTS: Final = {
    "id": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "moment": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"),
}


def shape_of(value: Any) -> Shape:
    """An object's keys with their shapes; a list's one shape, that of all its items; a word for anything else.

    What is null, or an empty list, in one item is as it is in another.
    """
    match value:
        case dict():
            return {
                name: "object" if isinstance(each, dict) and name in OPEN else shape_of(each)
                for name, each in value.items()
            }
        case list():
            shapes: list[Shape] = []
            for each in value:
                shapes = [_both(shapes[0], shape_of(each))] if shapes else [shape_of(each)]
            return shapes
        case None:
            return NOTHING
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
    return next((kind for kind, form in _TEXTS.items() if form.fullmatch(str(value))), "text")


def differences(found: Shape, kept: Shape, at: str = "") -> Iterator[str]:
    """Where they differ. Null may stand for anything, and an empty list for any: today there is none of it."""
    if NOTHING in (found, kept):
        return
    match found, kept:
        case dict(), dict():
            yield from (f"{at}.{name} is new" for name in found.keys() - kept.keys())
            yield from (f"{at}.{name} is gone" for name in kept.keys() - found.keys())
            for name in found.keys() & kept.keys():
                yield from differences(found[name], kept[name], f"{at}.{name}")
        case list(), list():
            for one, other in zip(found, kept, strict=False):
                yield from differences(one, other, f"{at}[]")
        case _:
            if found != kept:
                yield f"{at} was {kept}, and is {found}"


def _both(one: Shape, other: Shape) -> Shape:
    match one, other:
        case dict(), dict():
            names = [*one, *(name for name in other if name not in one)]
            return {name: _both(one.get(name, NOTHING), other.get(name, NOTHING)) for name in names}
        case list(), list():
            return [_both(one[0], other[0])] if one and other else one or other
    if NOTHING in (one, other):
        return other if one == NOTHING else one
    return one if one == other else " or ".join(sorted({*str(one).split(" or "), *str(other).split(" or ")}))
