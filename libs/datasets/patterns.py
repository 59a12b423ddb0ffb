"""Regular expressions that mean the same in DuckDB (RE2) and in Great Expectations (Python's re).

A contract's pattern must match the whole value, as DuckDB's `regexp_full_match` does; a leading ^ and a
trailing $ may be written and change nothing. Only what both engines read alike is taken: literals, `.` (not
a line feed), classes, groups, alternatives, quantifiers and lazy ones. \\d and \\w mean ASCII. Look-around,
back references, possessive quantifiers, flags, \\s, \\b and Unicode classes are refused.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["common_pattern", "python_regex"]

_TOKEN: Final = re.compile(
    r"(?P<shorthand>\\[dwDW])"
    r"|(?P<escape>\\[!-/:-@\[-`{-~ ]|\\[tnrf])"
    r"|(?P<class>\[\^?\]?(?:[^\]\\\[]|\\.)*\])"
    r"|(?P<quantifier>(?:[*+?]|\{(?P<low>\d{1,4})(?:,(?P<high>\d{0,4}))?\})\??)"
    r"|(?P<group>\(\?:|\((?!\?)|\)|\|)"
    r"|(?P<literal>[^\\\[\](){}*+?^$|])"
)
_SHORTHANDS: Final = {
    r"\d": "[0-9]",
    r"\w": "[0-9A-Za-z_]",
    r"\D": "[^0-9]",
    r"\W": "[^0-9A-Za-z_]",
}
_IN_CLASS: Final = {r"\d": "0-9", r"\w": "0-9A-Za-z_"}
_CLASS_PART: Final = re.compile(r"\\[dw]|\\[!-/:-@\[-`{-~ ]|\\[tnrf]|[^\\]")
_REPEAT_LIMIT: Final = 1000


def common_pattern(pattern: str) -> str:
    """The pattern, spelled so that both engines read it alike; it has to match the whole value.

    Raises:
        ValueError: says which part cannot be taken.
    """
    body = pattern.removeprefix("^")
    if body.endswith("$") and (len(body) - len(body[:-1].rstrip("\\")) - 1) % 2 == 0:
        body = body[:-1]
    parts: list[str] = []
    at, quantified = 0, True
    while at < len(body):
        token = _TOKEN.match(body, at)
        if token is None:
            raise ValueError(
                f"`{body[at : at + 4]}` at character {at + 1} is not read alike by DuckDB and Python"
            )
        is_quantifier = token.lastgroup in {"quantifier", "low", "high"}
        if is_quantifier and quantified:
            raise ValueError(f"`{token.group()}` at character {at + 1} repeats nothing or a repetition")
        parts.append(_spelled(token))
        quantified = is_quantifier or token.group() in {"(", "(?:", "|"}
        at = token.end()
    spelled = "".join(parts)
    try:
        re.compile(spelled)
    except (re.error, OverflowError) as error:
        raise ValueError(str(error)) from error
    return spelled


def python_regex(common: str) -> str:
    """The regex for Great Expectations, which searches: anchored, so that it has to match the whole value."""
    return rf"^(?:{common})\Z"


def _spelled(token: re.Match[str]) -> str:
    text = token.group()
    if token.group("quantifier"):
        if any(int(token.group(bound) or 0) > _REPEAT_LIMIT for bound in ("low", "high")):
            raise ValueError(f"`{text}` repeats more than {_REPEAT_LIMIT} times")
        return text
    if token.group("shorthand"):
        return _SHORTHANDS[text]
    return _spelled_class(text) if token.group("class") else text


def _spelled_class(text: str) -> str:
    negated = text.startswith("[^")
    inner = text[2 if negated else 1 : -1]
    parts: list[str] = []
    at = 0
    while at < len(inner):
        part = _CLASS_PART.match(inner, at)
        if part is None:
            raise ValueError(f"`{inner[at : at + 2]}` in `{text}` is not read alike by DuckDB and Python")
        parts.append(_IN_CLASS.get(part.group(), _plain(part.group())))
        at = part.end()
    if not parts or re.search(r"--|&&|~~|\|\|", inner):
        raise ValueError(f"`{text}` is not read alike by DuckDB and Python")
    return f"[{'^' if negated else ''}{''.join(parts)}]"


def _plain(part: str) -> str:
    return f"\\{part}" if part in {"[", "]", "^"} else part
