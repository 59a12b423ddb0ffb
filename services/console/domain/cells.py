"""A value of a table as people read it, and the `drp` command that asks for the same."""

from __future__ import annotations

import json
import shlex
from decimal import Decimal
from typing import Any, Final

__all__ = ["LONGEST", "cell", "command_for", "select"]

LONGEST: Final = 240
"""Characters of a value that a page shows; the files have it whole."""


def cell(value: Any, kind: str, *, apart: bool = False) -> str:
    """
    Args:
        value: as JSON has it; decimals and moments are text.
        kind: its type, as Arrow calls it.
        apart: numbers with their thousands apart: for measures, not for what may be a year or an id.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return _cut(json.dumps(value, ensure_ascii=False))
    if apart and (isinstance(value, int) or kind.startswith("decimal")):
        return f"{Decimal(value):,f}"
    if kind.startswith("timestamp"):
        return str(value).replace("T", " ").removesuffix("Z")
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def select(relation: str, *, order_by: str | None, descending: bool, rows: int, after: int = 0) -> str:
    """The query for some rows of a relation. order_by: a column, not quoted yet. after: how many are left out."""
    offset = f" OFFSET {after}" if after else ""
    if order_by is None:
        return f"SELECT * FROM {relation} LIMIT {rows}{offset}"
    name = order_by.replace('"', '""')
    way = " DESC" if descending else ""
    return f'SELECT * FROM {relation}\nORDER BY "{name}"{way} LIMIT {rows}{offset}'


def command_for(sql: str, *, dataset: str | None = None) -> str:
    """dataset: None where there is but one."""
    named = "" if dataset is None else f"--dataset {shlex.quote(dataset)} "
    return f"drp sql {named}{_quoted(sql)}"


def _quoted(sql: str) -> str:
    """In double quotes where the shell reads nothing into them, for SQL has single ones of its own."""
    return shlex.quote(sql) if set(sql) & set('"$`\\!') else f'"{sql}"'
