"""One event that was not taken: what is wrong, what the contract says, what came, what was done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from libs.datasets import Dataset, RowRuleKind
from libs.errors import Permanent
from libs.operations.corrections import ATTRIBUTE, Difference
from libs.operations.examination import examined
from libs.operations.prospects import FieldReport, field_reports
from libs.operations.quarantined import STAGES
from services.console.domain.quarantine import Piece, pieces, rule_says, sentence
from services.console.doors import Doors, Missing
from services.console.looks.failing import hidden

__all__ = ["ContractField", "Document", "QuarantinedPage", "look_at_quarantined"]

_NO_DATA: Final = b'{"data":{}}'
_ENVELOPE: Final = ("not_an_event", "unknown_version")


class ContractField(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the contract, what it wants, and what stands there (hidden unless asked for; None: nothing).

    rules: those that the gate judges once the row has landed. here: the event was refused for it.
    """

    field: str
    wanted: str
    required: bool
    description: str | None
    rules: list[str]
    value: str | None
    problem: str | None
    here: bool


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of an event: how many, and the text, in pieces, where it was asked for. more: it goes on."""

    bytes: int
    text: str | None
    pieces: list[Piece]
    more: bool


class QuarantinedPage(msgspec.Struct, frozen=True, kw_only=True):
    """What an event's page shows; event is None where Postgres couldn't be asked.

    event: as libs.operations.examination tells it, without its documents, of its fields those that are wrong; readable:
    whether its fields could be told apart. sentence: what is wrong. stage: where that
    was found. fields: what the contract says, empty if its dataset is not known here.
    """

    at: datetime
    missing: list[Missing]
    number: int
    revealed: bool
    event: dict[str, Any] | None
    sentence: str | None
    stage: str | None
    original: Document | None
    fixed: Document | None
    fields: list[ContractField]
    trace_url: str | None


async def look_at_quarantined(doors: Doors, number: int, *, reveal: bool) -> QuarantinedPage:
    """
    Args:
        reveal: whether the values of its fields, and its bytes, are shown.

    Raises:
        Permanent: there is none with this number.
    """
    refusal: Permanent | None = None

    async def found() -> dict[str, Any] | None:
        nonlocal refusal
        postgres = await doors.postgres()
        try:
            return await examined(postgres, doors.datasets, number)
        except Permanent as error:
            refusal = error
            return None

    at = datetime.now(UTC)
    seen = await doors.look("postgres", found)
    if refusal is not None:
        raise refusal
    missing = [] if seen.missing is None else [seen.missing]
    if seen.value is None:
        return _page(at, number, missing=missing, reveal=reveal)
    return _seen(at, doors, seen.value, reveal=reveal)


def _seen(at: datetime, doors: Doors, record: dict[str, Any], *, reveal: bool) -> QuarantinedPage:
    original: bytes = record.pop("original")
    fixed: bytes | None = record.pop("fixed")
    wrong = _wrong(record)
    changed = {each.field for each in record["differences"]}
    fields = _contract(doors.datasets.get(record["dataset"]), record, wrong, reveal=reveal)
    for name in ("differences", "against_raw"):
        record[name] = [_difference(each, reveal=reveal) for each in record[name]]
    record["readable"] = bool(record["fields"])
    record["fields"] = [
        {"field": each.field, "problem": each.problem} for each in record["fields"] if each.problem
    ]
    return _page(
        at,
        record["id"],
        reveal=reveal,
        event=record,
        sentence=sentence(record["reason"], record["meaning"], record["field"], record["detail"]),
        stage=STAGES.get(record["reason"]),
        original=_document(original, wrong, record["detail"], reveal=reveal),
        fixed=None if fixed is None else _document(fixed, changed, "", reveal=reveal),
        fields=fields,
        trace_url=doors.trace_page(record["trace_id"]),
    )


def _page(
    at: datetime, number: int, *, reveal: bool, missing: Sequence[Missing] = (), **told: Any
) -> QuarantinedPage:
    nothing: dict[str, Any] = dict.fromkeys(("event", "sentence", "stage", "original", "fixed", "trace_url"))
    values = {**nothing, "fields": [], **told}
    return QuarantinedPage(at=at, missing=list(missing), number=number, revealed=reveal, **values)


def _wrong(record: Mapping[str, Any]) -> set[str]:
    """The names that are to be marked in what came; an attribute of the envelope has `ce-` before it."""
    field = record["field"]
    if record["reason"] == "conflict":
        return {each.field for each in record["against_raw"]} or {f"{ATTRIBUTE}id", f"{ATTRIBUTE}source"}
    if field is None:
        return set()
    return {f"{ATTRIBUTE}{field}" if record["reason"] in _ENVELOPE else field}


def _contract(
    dataset: Dataset | None, record: Mapping[str, Any], wrong: set[str], *, reveal: bool
) -> list[ContractField]:
    """The fields of the contract, that which the event was refused for first."""
    if dataset is None:
        return []
    reports: list[FieldReport] = record["fields"]
    told = reports or [
        msgspec.structs.replace(each, problem=None) for each in field_reports(_NO_DATA, dataset)
    ]
    fields = [
        ContractField(
            field=report.field,
            wanted=report.wanted,
            required=report.required,
            description=column.description,
            rules=[
                f"the gate wants {rule_says(rule.kind, rule.expectation.kwargs)} ({rule.name})"
                for rule in dataset.row_rules
                if rule.column.field == column.field and rule.kind is not RowRuleKind.NOT_NULL
            ],
            value=report.value if reveal else hidden(report.value),
            problem=report.problem,
            here=column.field in wrong,
        )
        for report, column in zip(told, dataset.columns, strict=True)
    ]
    return sorted(fields, key=lambda field: not (field.here or field.problem))


def _document(content: bytes, names: set[str], detail: str, *, reveal: bool) -> Document:
    if not reveal:
        return Document(bytes=len(content), text=None, pieces=[], more=False)
    found, more = pieces(content, names, detail)
    text = content.decode("utf-8", "backslashreplace")
    return Document(bytes=len(content), text=text, pieces=found, more=more)


def _difference(each: Difference, *, reveal: bool) -> Difference:
    if reveal:
        return each
    return Difference(field=each.field, before=hidden(each.before), after=hidden(each.after))
