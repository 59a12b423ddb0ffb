"""What a model's SQL may be: one SELECT whose result depends on its rows alone. Pure text, no database."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["bare", "find_fault", "statement"]

_COVERED: Final = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'?|\$\$.*?(?:\$\$|\Z)|\"(?:[^\"]|\"\")*\"?", re.DOTALL
)
_CLOCK: Final = re.compile(
    r"\b(?:current_timestamp|current_date|current_time|localtimestamp|localtime"
    r"|(?:now|today|get_current_timestamp|get_current_time|transaction_timestamp|random|uuid|uuidv4|uuidv7"
    r"|gen_random_uuid|nextval|setseed)\s*\()",
    re.IGNORECASE,
)
_START: Final = re.compile(r"\s*\(*\s*(?:select|with|from)\b", re.IGNORECASE)


def bare(sql: str) -> str:
    """The SQL with comments, strings and quoted identifiers blanked out, line for line."""
    return _COVERED.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), sql)


def statement(sql: str) -> str:
    """The SQL without what follows its last word: white space, a semicolon."""
    return sql.rstrip().removesuffix(";").rstrip()


def find_fault(sql: str, *, reads: str | None = None) -> tuple[int, str, str] | None:
    """(line, what is wrong, what to write instead) of the first fault, None if it can be used.

    reads: a relation that it must name, e.g. `landed`.
    """
    text = bare(statement(sql))
    if not text.strip():
        return 1, "the file holds no statement", f"SELECT … FROM {reads or 'staging.…'}"
    if not _START.match(text):
        line = text[: len(text) - len(text.lstrip())].count("\n") + 1
        return line, "a model is one SELECT", f"SELECT … FROM {reads or 'staging.…'}"
    clock = _CLOCK.search(text)
    if clock:
        name = clock.group().rstrip("( \n\t")
        line = text.count("\n", 0, clock.start()) + 1
        return (
            line,
            f"`{name}` gives another result each time: a model has no clock and no chance",
            "max(event_time)",
        )
    if ";" in text:
        line = text.count("\n", 0, text.index(";")) + 1
        return line, "more than one statement", "one SELECT, without a semicolon inside"
    if (
        reads
        and not re.search(rf"(?<![\w.]){re.escape(reads)}\b", text, re.IGNORECASE)
        and f'"{reads}"' not in sql
    ):
        return 1, f"it does not read `{reads}`", f"SELECT … FROM {reads}"
    return None
