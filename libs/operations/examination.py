"""A quarantined event looked at closely: what came, what the contract says of it, the fix so far, what operators
did, what became of it, and which commands come next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from libs.errors import Permanent
from libs.operations import reading
from libs.operations.actions import acting, actions_on
from libs.operations.corrections import base_of, differences
from libs.operations.prospects import FieldReport, Landed, Prospect, Prospector, field_reports
from libs.operations.quarantine import quarantine_subject
from libs.pipeline.exact import BROKEN
from libs.pipeline.refusals import REASONS

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres
    from libs.datasets import Dataset
    from libs.operations.corrections import Difference
    from libs.operations.reading import Record

__all__ = ["examined", "next_commands"]

_BECAME: Final = """
-- at most one row: the entry of a redrive, once it has landed
SELECT entry_id, batch_id, accepted, duplicate, quarantined, dead_lettered, landed_at
FROM ops.entries WHERE stream = $1 AND entry_id = $2
"""


async def examined(postgres: Postgres, datasets: Mapping[str, Dataset], number: int) -> Record:
    """The record of reading.quarantined_event, and:

    meaning of the reason; outcome, outcome_detail and problems: what would become of it if it were published now,
    while it is open; fields: what the contract wants and what stands there; differences: of the fix; against_raw:
    how it differs from what RAW holds under its identity; became: of the last redrive's entry, None while that has
    not landed; actions; next.

    Raises:
        Permanent: there is none with this number.
    """
    record = await reading.quarantined_event(postgres, number)
    dataset = datasets.get(record["dataset"])
    document: bytes = record["original"] if record["fixed"] is None else record["fixed"]
    prospect, outcome, detail = Prospect(), None, None
    if dataset is None:
        detail = "its dataset is not there any more"
    elif record["state"] == "open":
        async with acting(postgres, dry_run=True) as connection:
            (prospect,) = await Prospector(dataset).ask(connection, [(record["stream_entry_id"], document)])
        outcome, detail = prospect.outcome, prospect.detail
    fields = [] if dataset is None else field_reports(_readable(document, record["reason"]), dataset)
    became = None
    if record["redriven_entry"] is not None:
        became = await postgres.fetchrow(_BECAME, record["stream"], record["redriven_entry"])
    batch = None if became is None else str(became["batch_id"])
    return {
        **record,
        "meaning": REASONS.get(record["reason"]),
        "outcome": outcome,
        "outcome_detail": detail,
        "problems": prospect.problems,
        "fields": fields,
        "differences": [] if record["fixed"] is None else differences(record["original"], document),
        "against_raw": _against(document, prospect.landed),
        "became": None if became is None else dict(became),
        "actions": await actions_on(postgres, quarantine_subject(number)),
        "next": next_commands(record, outcome, prospect, fields, batch),
    }


def next_commands(
    record: Record, outcome: str | None, prospect: Prospect, fields: list[FieldReport], batch: str | None
) -> list[str]:
    """What an operator may do next, the likeliest first."""
    number = record["id"]
    match record["state"]:
        case "discarded":
            return [f"drp quarantine reopen {number}"]
        case "redriven":
            return [f"drp batches show {batch}" if batch else "drp batches wait --all"]
    discard = f"drp quarantine discard {number} --because …"
    match outcome:
        case None:
            return [discard]
        case "conflict":
            return [f"drp quarantine fix {number} --new-id --redrive", discard]
        case "refused":
            return [*_ways_to_fix(record, prospect, fields), discard]
    return [f"drp quarantine redrive {number}", discard]


def _ways_to_fix(record: Record, prospect: Prospect, fields: list[FieldReport]) -> list[str]:
    number = record["id"]
    whole = [
        f"drp quarantine show {number} --original > event.json",
        f"drp quarantine fix {number} --file event.json",
    ]
    (problem, *_) = prospect.problems
    wrong = [field.field for field in fields if field.problem is not None]
    if record["reason"] == "unreadable" and record["fixed"] is None:
        wrong = [field.field for field in fields if field.required]
    if wrong and problem.reason != "undecodable":
        return [f"drp quarantine fix {number} {' '.join(f'--set {name}=…' for name in wrong)}"]
    if problem.reason == "not_an_event" and problem.field == "specversion":
        return [f"drp quarantine fix {number} --wrap", *whole]
    if problem.field is not None:
        return [f"drp quarantine fix {number} --set ce-{problem.field}=…"]
    return whole


def _readable(document: bytes, reason: str) -> bytes:
    """The event that the fields are looked for in: of a line that was no row there are none."""
    try:
        return base_of(document, reason) if b'"drpunreadable"' in document else document
    except Permanent:
        return document


def _against(document: bytes, landed: list[Landed]) -> list[Difference]:
    """Field by field what RAW holds (before) and what this event says (after), if they differ."""
    tokens = dict[str, msgspec.Raw]
    if len(landed) != 1 or landed[0].same:
        return []
    try:
        data = msgspec.json.decode(document, type=tokens)["data"]
    except (KeyError, *BROKEN):
        return []
    held, said = (
        b'{"data":' + msgspec.json.format(text, indent=-1) + b"}"
        for text in (landed[0].payload.encode(), bytes(data))
    )
    return differences(held, said)
