"""What was not taken, in words, bars and marked text; and the commands that do something about it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from services.console.domain.commands import Command

__all__ = [
    "Bars",
    "Part",
    "Piece",
    "bars",
    "begun",
    "commands_for_choice",
    "commands_for_slot",
    "in_sum",
    "parts_of_time",
    "pieces",
    "rule_says",
    "sentence",
    "version",
]

SHOWN: Final = 20_000
"""Characters of a document that a page shows."""
_LEAST: Final = 2.0
_BYTE: Final = re.compile(r"\(byte (\d{1,9})\)")
_KEY: Final = re.compile(r'^( +)"((?:[^"\\]|\\.)*)":')
_VERSION: Final = re.compile(r"urn:drp:[a-z0-9_]+:(v\d+)")
_FIELD_DEPTH: Final = 4
_ATTRIBUTE: Final = "ce-"


@dataclass(frozen=True, slots=True)
class Bars:
    """Counts over time as one path of upright strokes. says: the same, for who can't see it."""

    width: int
    height: int
    stroke: float
    path: str
    says: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the time, and how many came in it."""

    begins_at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text; marked where it is what the page is about."""

    text: str
    marked: bool = False


def bars(
    over: Sequence[int],
    begins_at: datetime | None,
    ends_at: datetime,
    *,
    width: int = 144,
    height: int = 24,
) -> Bars:
    """The highest bar is as high as the drawing; one that is not nought can be seen."""
    step, most = width / max(1, len(over)), max(over, default=0)
    drawn = []
    for place, count in enumerate(over):
        if count:
            tall = max(_LEAST, count / most * height)
            drawn.append(f"M{round((place + 0.5) * step, 2):g},{height} v{-round(tall, 1):g}")
    told = parts_of_time(over, begins_at, ends_at)
    highest = max(told, key=lambda part: part.count, default=None)
    says = (
        "none"
        if highest is None
        else f"{sum(over):,} in all, most of them, {highest.count:,}, from {highest.begins_at:%Y-%m-%d %H:%M} UTC on"
    )
    return Bars(width, height, round(step * 0.7, 2), " ".join(drawn), says)


def parts_of_time(over: Sequence[int], begins_at: datetime | None, ends_at: datetime) -> list[Part]:
    """The parts in which something came."""
    if begins_at is None or not over:
        return []
    each = max(timedelta(seconds=1), ends_at - begins_at) / len(over)
    return [Part(begins_at + place * each, count) for place, count in enumerate(over) if count]


def in_sum(all_of_them: Sequence[Sequence[int]]) -> list[int]:
    """Part by part, over all the groups."""
    return [sum(counts) for counts in zip(*all_of_them, strict=True)]


def version(dataschema: str | None) -> str | None:
    """The contract's version, as short as it can be said."""
    found = _VERSION.fullmatch(dataschema or "")
    return found[1] if found else dataschema


def sentence(reason: str, meaning: str | None, field: str | None, detail: str) -> str:
    """What is wrong with an event. None of these quote its payload."""
    if field is not None and detail.startswith(f"{field}: "):
        return f"Its {field} was refused: {detail.removeprefix(f'{field}: ')}."
    if field is not None and detail.startswith(f"{field} "):
        return f"Its {detail}."
    if reason == "conflict" or meaning is None:
        return f"{begun(detail)}."
    return f"{begun(meaning)}: {detail.removeprefix('JSON is malformed: ')}."


def begun(text: str) -> str:
    """As a sentence begins; what follows stays as it is."""
    return f"{text[:1].upper()}{text[1:]}"


def pieces(document: bytes, names: Collection[str], detail: str) -> tuple[list[Piece], bool]:
    """A document as it is shown, and whether there is more of it.

    JSON stands field by field, those in names marked (an attribute of the envelope has `ce-` before it); of what is no
    JSON the byte is marked that the detail names, and else its end, where more was awaited.
    """
    try:
        shown = msgspec.json.format(document, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _broken(document, detail)
    found: list[Piece] = []
    for line in shown[:SHOWN].splitlines(keepends=True):
        key = _KEY.match(line)
        named = key is not None and (
            key[2] if len(key[1]) == _FIELD_DEPTH else f"{_ATTRIBUTE}{key[2]}" if len(key[1]) == 2 else ""
        )
        marked = bool(named) and named in names
        if found and found[-1].marked == marked and not marked:
            found[-1] = Piece(found[-1].text + line)
        else:
            found.append(Piece(line, marked))
    return found, len(shown) > SHOWN


def _broken(document: bytes, detail: str) -> tuple[list[Piece], bool]:
    at = _BYTE.search(detail)
    place = int(at[1]) if at else len(document)
    begin = max(0, place - SHOWN // 2)
    before, wrong, after = document[begin:place], document[place : place + 1], document[place + 1 :][:SHOWN]
    found = [
        Piece(_text(before)),
        Piece(_text(wrong) if wrong else "⟵ it ends here", marked=True),
        Piece(_text(after)),
    ]
    return [piece for piece in found if piece.text], begin > 0 or place + 1 + SHOWN < len(document)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")


def rule_says(kind: str, kwargs: Mapping[str, object]) -> str:
    """What a row rule asks of a value."""
    match kind:
        case "valid_values":
            values = kwargs.get("value_set")
            return "one of " + ", ".join(map(str, values if isinstance(values, list | tuple) else [values]))
        case "pattern":
            return f"matches {kwargs.get('regex')}"
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    bounds = [
        f"{'>' if kwargs.get('strict_min') else '≥'} {low}" if low is not None else "",
        f"{'<' if kwargs.get('strict_max') else '≤'} {high}" if high is not None else "",
    ]
    said = " and ".join(bound for bound in bounds if bound)
    return f"{'length ' if kind == 'length' else ''}{said}"


def commands_for_slot(slot: Mapping[str, Any]) -> list[Command]:
    """Of an event, as libs.operations.examination tells it; what comes next is not among them."""
    number = slot["id"]
    found = [
        Command(f"drp quarantine show {number}", "this page"),
        Command(f"drp quarantine show {number} --original", "its bytes, exactly as they came"),
        Command(f"drp why quarantine:{number}", "why it is where it is"),
    ]
    if slot["event_id"]:
        found.append(Command(f"drp events find {shlex.quote(slot['event_id'])}", "all that has its id"))
    if slot["state"] != "open":
        return [*found, Command(f"drp quarantine reopen {number}", "take it up again")]
    wrong = [each["field"] for each in slot["fields"] if each["problem"]]
    sets = " ".join(f"--set {shlex.quote(name)}=…" for name in wrong)
    sets = sets or ("--new-id" if slot["outcome"] == "conflict" else "--edit")
    return [
        *found,
        Command(f"drp quarantine fix {number} {sets}", "keep a correction beside it; nothing is published"),
        Command(
            f"drp quarantine fix {number} {sets} --redrive", "and publish it, if nothing is wrong any more"
        ),
        Command(f"drp quarantine redrive {number}", "publish it again, as it was fixed"),
        Command(f"drp quarantine discard {number} --because …", "put it away; its bytes stay"),
    ]


def commands_for_choice(
    dataset: str | None, reason: str | None, batch: str | None, state: str | None
) -> list[Command]:
    """Of the list. `drp` selects by dataset, reason and batch: a field or a version narrows the page alone."""
    given = {"--dataset": dataset, "--reason": reason, "--batch": batch}
    chosen = " ".join(f"{option} {shlex.quote(value)}" for option, value in given.items() if value)
    of_state = "" if state == "open" else f" --state {state or 'all'}"
    found = [Command(f"drp quarantine ls {chosen}".rstrip() + of_state, "the list")]
    if state in ("open", None):
        which = chosen or "--all"
        found += [
            Command(f"drp quarantine redrive {which} --dry-run", "what would become of the open ones"),
            Command(f"drp quarantine redrive {which}", "publish again those that would be taken now"),
            Command(f"drp quarantine discard {which} --because …", "put them away; their bytes stay"),
        ]
    return found
