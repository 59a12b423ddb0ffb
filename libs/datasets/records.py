"""The msgspec struct of a dataset's `data`, made from its columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from libs.datasets.model import Column, ColumnType

__all__ = ["BIGINT_MAX", "BIGINT_MIN", "record_type"]

BIGINT_MIN: Final = -(2**63)
BIGINT_MAX: Final = 2**63 - 1

_TYPES: Final[dict[ColumnType, Any]] = {
    ColumnType.STRING: str,
    ColumnType.INTEGER: Annotated[int, msgspec.Meta(ge=BIGINT_MIN, le=BIGINT_MAX)],
    ColumnType.BOOLEAN: bool,
    ColumnType.DATE: dt.date,
}


def record_type(
    columns: Sequence[Column], *, closed: bool, moment: Any = dt.datetime
) -> type[msgspec.Struct]:
    """A struct with one field a column, in order, named c0, c1 … and read from the column's field.

    A number stays msgspec.Raw (`null` if an optional one is absent), for only its text tells whether it is
    exact and plainly written. closed: refuse fields that the contract does not name. moment: the type that
    timestamps are decoded as, `str` to leave them as they are written.
    """
    types = _TYPES | {ColumnType.TIMESTAMP: moment}
    fields: list[Any] = []
    for index, column in enumerate(columns):
        if column.type is ColumnType.NUMBER:
            field = (f"c{index}", msgspec.Raw)
            fields.append(field if column.required else (*field, msgspec.Raw(b"null")))
        elif column.required:
            fields.append((f"c{index}", types[column.type]))
        else:
            fields.append((f"c{index}", types[column.type] | None, None))
    return msgspec.defstruct(
        "Record",
        fields,
        rename={f"c{index}": column.field for index, column in enumerate(columns)},
        forbid_unknown_fields=closed,
        kw_only=True,
        gc=False,
    )
