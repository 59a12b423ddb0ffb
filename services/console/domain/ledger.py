"""What each side of the ledger says of a batch, and where a side does not equal the one before it. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import msgspec

__all__ = [
    "CELLS",
    "BatchRow",
    "Cell",
    "CellName",
    "Problem",
    "Verdict",
    "batch_row",
    "generation_problem",
    "verdict_of",
]

CellName = Literal["producer", "stream", "raw", "staging", "mart", "archive"]
CELLS: Final[dict[CellName, tuple[str, str]]] = {
    "producer": ("Producer", "entries"),
    "stream": ("Stream", "events in them"),
    "raw": ("RAW", "events landed"),
    "staging": ("Staging", "accepted rows"),
    "mart": ("Mart", "generation, gate"),
    "archive": ("Archive", "records kept"),
}
"""In the order of the flow: how a column is headed, and what it counts."""

_ON_THE_WAY: Final = {
    "open": "still open",
    "closed": "waits for a build",
    "building": "being built",
    "built": "at the gate",
    "passed": "being published",
    "blocked": "blocked by the gate",
    "held": "held",
}


class Balance(Protocol):
    """What is taken of libs.operations.balance.Balance."""

    @property
    def id(self) -> uuid.UUID: ...
    @property
    def dataset(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def opened_at(self) -> datetime: ...
    @property
    def closed_at(self) -> datetime | None: ...
    @property
    def archived_at(self) -> datetime | None: ...
    @property
    def entries(self) -> int: ...
    @property
    def events(self) -> int: ...
    @property
    def entries_accepted(self) -> int: ...
    @property
    def entries_duplicate(self) -> int: ...
    @property
    def entries_quarantined(self) -> int: ...
    @property
    def entries_dead_lettered(self) -> int: ...
    @property
    def landed(self) -> int: ...
    @property
    def accepted(self) -> int: ...
    @property
    def duplicate(self) -> int: ...
    @property
    def quarantined(self) -> int: ...
    @property
    def dead_lettered(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def raw_rows(self) -> int | None: ...
    @property
    def quarantine_rows(self) -> int: ...
    @property
    def generation(self) -> int | None: ...
    @property
    def last_generation(self) -> int | None: ...
    @property
    def verdict(self) -> str | None: ...
    @property
    def read_generation(self) -> int | None: ...
    @property
    def archived_accepted(self) -> int: ...
    @property
    def archived_refused(self) -> int: ...


class Taken(Protocol):
    """What is taken of libs.operations.balance.Taken."""

    @property
    def rows(self) -> int: ...
    @property
    def staged(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def superseded(self) -> int: ...


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A side of the ledger, of one batch.

    state: `equal` (to the side before it), `differs`, `waiting` (not there yet, and needn't be), `unknown` (could not
    be asked), `none` (there is nothing to count). count: None where there is no number. parts: what it is made of,
    noughts left out. says: how it differs, what it waits for, or why it isn't known.
    """

    name: CellName
    state: Literal["equal", "differs", "waiting", "unknown", "none"]
    count: int | None
    parts: list[tuple[str, int]] = []
    says: list[str] = []


class BatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """A batch on all sides."""

    id: uuid.UUID
    dataset: str
    status: str
    opened_at: datetime
    generation: int | None
    verdict: str | None
    cells: list[Cell]

    @property
    def balanced(self) -> bool:
        return all(cell.state != "differs" for cell in self.cells)

    @property
    def known(self) -> bool:
        """Whether every side could be asked."""
        return all(cell.state != "unknown" for cell in self.cells)

    def cell(self, name: str) -> Cell:
        return next(cell for cell in self.cells if cell.name == name)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What does not balance, in words; batch: that it is said of, if it is one batch's."""

    batch: uuid.UUID | None
    says: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether everything balances; state: `balanced`, `differs`, `unknown` or `empty`."""

    state: Literal["balanced", "differs", "unknown", "empty"]
    problems: list[Problem]


class Report(Protocol):
    @property
    def published(self) -> int: ...
    @property
    def problems(self) -> list[str]: ...


def verdict_of(
    reports: Sequence[Report] | None,
    differing: Iterable[BatchRow] = (),
    *,
    asked: bool,
    uncounted: Iterable[str] = (),
) -> Verdict:
    """As `drp ledger verify` says it; and what it doesn't compare, the archive and what readers see.

    Args:
        reports: of the newest count; None if there is none.
        differing: batches of which two sides differ, by the same count.
        uncounted: what was not counted, in sentences: then it is not known whether all balances.
        asked: whether the servers can be asked now; without them an old count says nothing of today.
    """
    if reports is None or not asked:
        return Verdict(state="unknown", problems=[])
    problems = [_problem(text) for one in reports for text in one.problems]
    told = {problem.batch for problem in problems}
    problems += [
        Problem(batch=row.id, says=f"{CELLS[cell.name][0]}: {'; '.join(cell.says)}")
        for row in differing
        for cell in row.cells
        if cell.state == "differs" and (row.id not in told or cell.name in _BEYOND)
    ]
    left_out = [Problem(batch=None, says=text) for text in uncounted]
    if problems or left_out:
        return Verdict(state="differs" if problems else "unknown", problems=[*problems, *left_out])
    return Verdict(state="balanced" if any(one.published for one in reports) else "empty", problems=[])


_BEYOND: Final = ("staging", "archive")
"""The sides that `drp ledger verify` does not compare batch by batch."""
_OF_A_BATCH: Final = re.compile(r"batch ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):? ")


def _problem(text: str) -> Problem:
    """What the ledger says, with the batch that it begins with apart."""
    found = _OF_A_BATCH.match(text)
    if found is None:
        return Problem(batch=None, says=text)
    return Problem(batch=uuid.UUID(found[1]), says=text[found.end() :])


def batch_row(batch: Balance, taken: Mapping[uuid.UUID, Taken] | None, *, archives: bool) -> BatchRow:
    """
    Args:
        taken: what the generation that readers see has of each batch; None if its file could not be asked.
        archives: whether what is not archived is to be.
    """
    cells = [
        Cell(name="producer", state="equal", count=batch.entries),
        _stream(batch),
        _raw(batch),
        _staging(batch, taken),
        _mart(batch),
        _archive(batch, archives=archives),
    ]
    return BatchRow(
        id=batch.id,
        dataset=batch.dataset,
        status=batch.status,
        opened_at=batch.opened_at,
        generation=batch.generation or batch.last_generation,
        verdict=batch.verdict,
        cells=cells,
    )


def generation_problem(generation: Mapping[str, Any]) -> str | None:
    """How the rows of a generation don't add up, as libs.operations.reading.generations tells it; None if they do."""
    parts = [generation[name] for name in ("staged", "rejected", "superseded")]
    if generation["raw_rows"] is None or None in parts or generation["raw_rows"] == sum(parts):
        return None
    return f"built from {generation['raw_rows']:,} rows, which became {sum(parts):,}"


def _stream(batch: Balance) -> Cell:
    sides = (
        ("accepted", batch.entries_accepted, batch.accepted),
        ("duplicate", batch.entries_duplicate, batch.duplicate),
        ("quarantined", batch.entries_quarantined, batch.quarantined),
        ("dead-lettered", batch.entries_dead_lettered, batch.dead_lettered),
    )
    says = [
        f"its entries say {theirs:,} {name}, the batch {own:,}"
        for name, theirs, own in sides
        if theirs != own
    ]
    return Cell(name="stream", state="differs" if says else "equal", count=batch.events, says=says)


def _raw(batch: Balance) -> Cell:
    says = []
    if batch.raw_rows is not None and batch.raw_rows != batch.accepted:
        says.append(f"{batch.accepted:,} accepted, {batch.raw_rows:,} rows in RAW")
    if batch.quarantine_rows != batch.refused:
        says.append(f"{batch.refused:,} refused, {batch.quarantine_rows:,} rows in quarantine")
    parts = _parts(
        ("accepted", batch.accepted),
        ("duplicate", batch.duplicate),
        ("quarantined", batch.quarantined),
        ("dead-lettered", batch.dead_lettered),
    )
    if says:
        return Cell(name="raw", state="differs", count=batch.landed, parts=parts, says=says)
    if batch.raw_rows is None:
        says = [f"dataset {batch.dataset} is not among the console's: its RAW was not counted"]
        return Cell(name="raw", state="unknown", count=batch.landed, parts=parts, says=says)
    return Cell(name="raw", state="equal", count=batch.landed, parts=parts)


def _staging(batch: Balance, taken: Mapping[uuid.UUID, Taken] | None) -> Cell:
    if not batch.accepted:
        return Cell(name="staging", state="none", count=None, says=["none of it was accepted"])
    if batch.generation is None:
        says = [_ON_THE_WAY.get(batch.status, batch.status)]
        return Cell(name="staging", state="waiting", count=None, says=says)
    if taken is None:
        says = ["the generation's file could not be asked"]
        return Cell(name="staging", state="unknown", count=None, says=says)
    mine = taken.get(batch.id)
    rows = 0 if mine is None else mine.rows
    parts = (
        []
        if mine is None
        else _parts(("staged", mine.staged), ("rejected", mine.rejected), ("superseded", mine.superseded))
    )
    if rows != batch.accepted:
        says = [f"{batch.accepted:,} accepted, generation {batch.read_generation} took {rows:,}"]
        return Cell(name="staging", state="differs", count=rows, parts=parts, says=says)
    return Cell(name="staging", state="equal", count=rows, parts=parts)


def _mart(batch: Balance) -> Cell:
    """Marts sum over batches: they are judged a generation at a time."""
    if not batch.accepted:
        return Cell(name="mart", state="none", count=None)
    if batch.generation is None:
        return Cell(name="mart", state="waiting", count=batch.last_generation)
    return Cell(name="mart", state="equal", count=batch.generation)


def _archive(batch: Balance, *, archives: bool) -> Cell:
    count = batch.archived_accepted + batch.archived_refused
    parts = _parts(("accepted", batch.archived_accepted), ("refused", batch.archived_refused))
    if batch.archived_at is None and not archives:
        return Cell(name="archive", state="none", count=None, says=["the archive is off"])
    if batch.archived_at is None:
        says = ["still open" if batch.closed_at is None else "waits for the archiver"]
        return Cell(name="archive", state="waiting", count=None, says=says)
    sides = (
        ("accepted", batch.accepted, batch.archived_accepted),
        ("refused", batch.refused, batch.archived_refused),
    )
    says = [f"{own:,} {name}, {theirs:,} in the archive" for name, own, theirs in sides if own != theirs]
    return Cell(name="archive", state="differs" if says else "equal", count=count, parts=parts, says=says)


def _parts(*named: tuple[str, int]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in named if count]
