"""Facts about JSON text that no parser tells: depth, NUL, lone surrogates, numbers Postgres cannot hold.

Everything here is linear in the length of its input, whatever that input is.
"""

from __future__ import annotations

import itertools
import re
from typing import Final

__all__ = [
    "elements",
    "has_nul",
    "is_deeper",
    "may_be_deeper",
    "may_hold_wild_number",
    "wild_number",
    "with_short_numbers",
    "without_lone_surrogates",
]

_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_NUMBERS: Final = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"?|(-?)([0-9]++)(?:\.([0-9]++))?+(?:[eE]([+-]?+[0-9]++))?+', re.DOTALL
)
_ESCAPES: Final = re.compile(rb"\\u0000|\\.", re.DOTALL)
_SURROGATES: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.",
    re.DOTALL,
)
_DIGITS_TO_ZERO: Final = bytes(
    ord("0") if chr(code).isdigit() and code < 128 else ord("e") if code in b"eE" else code
    for code in range(256)
)
_JSONB_INTEGER_DIGITS: Final = 131_072
_JSONB_SCALE: Final = 16_383
_EXPONENT_DIGITS: Final = 9
_WRITTEN_DIGITS: Final = 64 * 1024 * 1024
"""Of all numbers together: Postgres writes no text above 1 GB, and the archive holds what it writes."""


def may_be_deeper(text: bytes, limit: int) -> bool:
    """False only if no more than `limit` brackets open anywhere in the text, strings included."""
    return text.count(b"{") + text.count(b"[") > limit


def is_deeper(text: bytes, limit: int) -> bool:
    """Whether arrays and objects are nested more than `limit` deep; the outermost counts as one."""
    depth = 0
    for token in _STRUCTURE.finditer(text):
        first = token.group()[:1]
        if first in b"{[":
            depth += 1
            if depth > limit:
                return True
        elif first in b"}]":
            depth -= 1
    return False


def elements(text: bytes, limit: int) -> list[bytes] | None:
    """The elements of a JSON array as they stand, looking only at brackets, commas and strings.

    None if brackets do not match up or something stands beside the array. At most limit + 1 are returned: so
    many mean that there are more.
    """
    marks = _top_marks(text, limit)
    if marks is None or text[: marks[0]].strip():
        return None
    found = [text[start + 1 : end].strip() for start, end in itertools.pairwise(marks)]
    if len(found) <= limit and text[marks[-1] + 1 :].strip():
        return None
    return [] if found == [b""] else found


def _top_marks(text: bytes, limit: int) -> list[int] | None:
    """Where the outermost array opens, its commas stand and it closes; None if brackets do not match up."""
    marks: list[int] = []
    awaited = bytearray()
    for token in _STRUCTURE.finditer(text):
        mark = token.group()[:1]
        if mark in b"}]":
            if awaited[-1:] != mark:
                return None
            awaited.pop()
        if len(awaited) == (0 if mark in b"[]{}" else 1) and mark != b'"':
            marks.append(token.start())
        if mark in b"{[":
            awaited += b"}" if mark == b"{" else b"]"
        if (marks and not awaited) or len(marks) > limit + 1:
            return marks
    return None


def has_nul(text: bytes) -> bool:
    """Whether a string of this JSON, a key included, contains U+0000."""
    return b"\\u0000" in text and any(match.group() == b"\\u0000" for match in _ESCAPES.finditer(text))


def without_lone_surrogates(text: bytes) -> bytes:
    """The same JSON, of the same length, with U+FFFD for each escaped half of a surrogate pair.

    Postgres and strict parsers refuse the half, the grammar of JSON does not.
    """
    return _SURROGATES.sub(
        lambda match: (
            rb"\ufffd" if match.group()[:2] == b"\\u" and len(match.group()) == 6 else match.group()
        ),
        text,
    )


def with_short_numbers(text: bytes) -> bytes:
    """The same JSON, also to jsonb (which keeps a number's value and its digits after the point), each number in the
    fewest bytes: 1e30 for the thirty zeros that jsonb writes."""
    return _NUMBERS.sub(_short, text)


def _short(match: re.Match[bytes]) -> bytes:
    written = match.group()
    if match[2] is None or match[4] is not None:
        return written
    fraction = match[3] or b""
    digits = (match[2] + fraction).lstrip(b"0") or b"0"
    if fraction:
        short = b"%se-%d" % (digits, len(fraction))
    else:
        kept = digits.rstrip(b"0") or b"0"
        short = b"%se%d" % (kept, len(digits) - len(kept))
    return min(written, match[1] + short, key=len)


def may_hold_wild_number(text: bytes) -> bool:
    """False only if no number of this JSON can be beyond what jsonb holds."""
    plain = text.translate(_DIGITS_TO_ZERO, b"+-")
    return b"e0000" in plain or b"0" * _JSONB_SCALE in plain


def wild_number(text: bytes) -> str | None:
    """Why a number of this JSON is beyond Postgres's numeric, and so jsonb, or all are together; None if none is."""
    written = 0
    for match in _NUMBERS.finditer(text):
        if match[2] is None:
            continue
        whole, fraction = match[2].lstrip(b"0"), match[3] or b""
        exponent_text = (match[4] or b"0").lstrip(b"+-0")
        if len(exponent_text) > _EXPONENT_DIGITS:
            return "a number's exponent is out of range"
        exponent = int(exponent_text or b"0") * (-1 if (match[4] or b"").startswith(b"-") else 1)
        if len(fraction) - exponent > _JSONB_SCALE:
            return f"a number has more than {_JSONB_SCALE} digits after the point"
        digits = len(whole) or -(len(fraction) - len(fraction.lstrip(b"0")))
        if digits + exponent > _JSONB_INTEGER_DIGITS:
            return f"a number has more than {_JSONB_INTEGER_DIGITS} digits before the point"
        written += max(digits + exponent, 0) + max(len(fraction) - exponent, 0)
    if written > _WRITTEN_DIGITS:
        return f"its numbers have more than {_WRITTEN_DIGITS} digits, written out without exponents"
    return None
