"""What would become of a document if it were published now: the ingestor's own decoder, Postgres' own types and
RAW's own identities are asked; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from libs.adapters.postgres import Connection, PostgresRefused, copy_rows
from libs.datasets import Column, ColumnType, Dataset, quoted
from libs.pipeline.decode import Decoder, LandedRow, Refused, raw_copy_columns
from libs.pipeline.exact import BROKEN
from libs.pipeline.values import Unreadable, read_value

__all__ = ["FieldReport", "Landed", "Outcome", "Problem", "Prospect", "Prospector", "field_reports"]

Outcome = Literal["accepted", "duplicate", "conflict", "refused"]

_WANTED: Final = {
    ColumnType.STRING: "text",
    ColumnType.INTEGER: "a whole number",
    ColumnType.BOOLEAN: "true or false",
    ColumnType.DATE: "a date as text: 2024-01-31",
    ColumnType.TIMESTAMP: "a moment as text: 2024-01-31T12:34:56Z",
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why the document would not land. position: which of its events; field: where it is known."""

    position: int
    reason: str
    field: str | None
    detail: str


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """What RAW holds under an event's identity: same is whether the payloads are equal."""

    source: str
    event_id: str
    batch_id: UUID
    same: bool
    payload: str


class FieldReport(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the contract, what is wanted in it and what stands there (JSON text, None if nothing does)."""

    field: str
    wanted: str
    required: bool
    value: str | None
    problem: str | None


@dataclass(slots=True)
class Prospect:
    """What would become of a document. times: the moments of its events, by position; landed: those that RAW has."""

    problems: list[Problem] = field(default_factory=list)
    landed: list[Landed] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        if self.problems:
            return "refused"
        if any(not each.same for each in self.landed):
            return "conflict"
        return "duplicate" if len(self.landed) == len(self.times) else "accepted"

    @property
    def detail(self) -> str | None:
        """Why it would not be accepted; None if it would be."""
        match self.outcome:
            case "refused":
                more = "" if len(self.problems) == 1 else f" (and {len(self.problems) - 1} more)"
                return f"{self.problems[0].reason}: {self.problems[0].detail}{more}"
            case "conflict":
                return "RAW holds another payload under this source and id"
            case "duplicate":
                return "RAW holds it already"
        return None


class Prospector:
    """Asks for the documents of one dataset, all within one transaction of the caller's."""

    def __init__(self, dataset: Dataset) -> None:
        self._decoder = Decoder(dataset)
        self._columns = raw_copy_columns(dataset)
        self._entry = self._columns.index("stream_entry_id")
        self._time = self._columns.index("event_time")
        self._name = f"prospects_{dataset.name}"
        table, listed = quoted(self._name), ", ".join(map(quoted, self._columns))
        self._create = (
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {table} ON COMMIT DROP "
            f"AS SELECT {listed} FROM {dataset.raw_table} WITH NO DATA"
        )
        self._empty = f"TRUNCATE {table}"
        self._landed = f"""
            -- one row per event whose identity RAW holds; stream_entry_id is the document's place in the list
            SELECT p.stream_entry_id::int AS document, p.source_system AS source, p.event_id, r.batch_id,
                   p.raw_payload = r.raw_payload AS same, r.raw_payload::text AS payload
            FROM {table} p
            CROSS JOIN LATERAL (
                SELECT batch_id, raw_payload FROM {dataset.raw_table}
                WHERE event_id = p.event_id AND source_system = p.source_system LIMIT 1
            ) r ORDER BY document, p.stream_position
        """

    async def ask(self, connection: Connection, documents: Sequence[tuple[str, bytes]]) -> list[Prospect]:
        """One answer a document, given with the id of the entry it came in, which stands in for an absent time.

        Two of the documents with the same identity are not told from each other: the later one will be.
        """
        found = [Prospect() for _ in documents]
        rows: list[LandedRow] = []
        for place, (entry_id, document) in enumerate(documents):
            slots = self._decoder.decode(document, entry_id=entry_id)
            found[place].problems = [_problem(refused) for refused in slots.refused]
            found[place].times = [row[self._time] for row in slots.rows]
            rows += [self._placed(row, place) for row in slots.rows]
        await connection.execute(self._create)
        await connection.execute(self._empty)
        for row, why in await self._store(connection, rows):
            problem = Problem(position=row[-1], reason="unstorable", field=None, detail=why)
            found[int(row[self._entry])].problems.append(problem)
        for landed in await connection.fetch(self._landed):
            found[landed["document"]].landed.append(
                Landed(**{name: landed[name] for name in Landed.__struct_fields__})
            )
        return found

    def _placed(self, row: LandedRow, place: int) -> LandedRow:
        return (*row[: self._entry], str(place), *row[self._entry + 1 :])

    async def _store(self, connection: Connection, rows: Sequence[LandedRow]) -> list[tuple[LandedRow, str]]:
        """Keep the rows beside RAW; those that Postgres refuses, with what it said, found by halving."""
        try:
            async with connection.transaction():
                await copy_rows(connection, self._name, self._columns, rows)
        except PostgresRefused as refused:
            if not refused.blames_data:
                raise
            if len(rows) == 1:
                return [(rows[0], refused.why or refused.what)]
            middle = len(rows) // 2
            guilty = await self._store(connection, rows[:middle])
            return guilty + await self._store(connection, rows[middle:])
        return []


def field_reports(document: bytes, dataset: Dataset) -> list[FieldReport]:
    """Every field of the contract, what it wants and what the document has; empty if it is no single event."""
    found = _data(document)
    if found is None:
        return []
    return [_report(column, found.get(column.field)) for column in dataset.columns]


def _data(event: bytes) -> dict[str, msgspec.Raw] | None:
    tokens = dict[str, msgspec.Raw]
    try:
        attributes = msgspec.json.decode(event, type=tokens)
        return msgspec.json.decode(attributes.get("data", b"null"), type=tokens)
    except BROKEN:
        return None


def _report(column: Column, token: msgspec.Raw | None) -> FieldReport:
    value = b"null" if token is None else bytes(token)
    problem = None
    if value == b"null":
        problem = ("is missing" if token is None else "is null") if column.required else None
    else:
        try:
            read_value(value, column)
        except (Unreadable, *BROKEN) as error:
            problem = getattr(error, "detail", "can not be read")
    return FieldReport(
        field=column.field,
        wanted=_wanted(column),
        required=column.required,
        value=None if token is None else value.decode("utf-8", "backslashreplace"),
        problem=problem,
    )


def _wanted(column: Column) -> str:
    if column.type is ColumnType.NUMBER:
        precision, scale = column.precision or 0, column.scale or 0
        return f"a decimal, as number or text: up to {precision - scale} digits, {scale} after the point"
    return _WANTED[column.type]


def _problem(refused: Refused) -> Problem:
    return Problem(
        position=refused.position, reason=refused.reason, field=refused.field, detail=refused.detail
    )
