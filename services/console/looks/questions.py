"""Somebody's own SQL on the generation that readers see: read-only, limited, and two at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import IO, Final

import msgspec

from libs.adapters.warehouse import Answer, Limits, ask, write_result
from libs.errors import DrpError, Permanent, Transient
from services.console.doors import Doors, Missing
from services.console.looks.data import Relation, current, elsewhere, relations
from services.console.looks.kept import Form, kept
from services.console.looks.mart import current_file, published_file
from services.console.looks.rows import Rows, read, rows_of

__all__ = ["AT_ONCE", "LONGEST", "SHOWN", "TO_KEEP", "QuestionPage", "Questions", "Refusal"]

LONGEST: Final = 8_000
"""Characters of a question: servers on its way take no longer addresses."""
AT_ONCE: Final = 2
WAITS: Final = 5.0
"""Seconds for which a question waits for others to be answered."""
SHOWN: Final = Limits()
TO_KEEP: Final = Limits(rows=200_000, cells=200_000_000, size=64_000_000)
"""What an answer in a file may cost."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no answer. status: as HTTP has it."""

    status: int
    what: str
    why: str | None
    fix: str | None


class QuestionPage(msgspec.Struct, frozen=True, kw_only=True):
    """A question and its answer; without sql, the tables that can be asked. cut: there are more rows. file is None
    where nothing is published, or the files couldn't be read."""

    at: datetime
    missing: list[Missing]
    dataset: str
    sql: str
    file: str | None
    relations: list[Relation]
    answer: Rows | None = None
    cut: bool = False
    seconds: float | None = None
    refusal: Refusal | None = None


class Questions:
    """What is asked at the same time waits for its turn, so that pages and landing keep a processor."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def page(self, dataset: str, sql: str) -> QuestionPage:
        """Never raises: what was refused is on the page."""
        known: list[str] = []

        async def look() -> list[Relation]:
            path = current_file(self._doors, dataset)
            if path is None:
                return []
            known.append(path.name)
            return await read(path, relations)

        at = datetime.now(UTC)
        seen = await self._doors.look("warehouse", look)
        missing = [] if seen.missing is None else [seen.missing]
        if not known and not missing:
            told = await self._doors.look("postgres", lambda: current(self._doors, dataset))
            missing = [] if told.value is None else [elsewhere(told.value)]
        page = QuestionPage(
            at=at,
            missing=missing,
            dataset=dataset,
            sql=sql,
            file=known[0] if known else None,
            relations=seen.value or [],
        )
        if not sql.strip() or not known or seen.value is None:
            return page
        try:
            answer = await self._answer(dataset, sql, SHOWN)
            rows = await asyncio.to_thread(rows_of, answer.table)
        except DrpError as error:
            return msgspec.structs.replace(page, refusal=_refusal(error))
        return msgspec.structs.replace(page, answer=rows, cut=answer.cut, seconds=answer.seconds)

    async def file(self, dataset: str, sql: str, form: Form) -> tuple[IO[bytes], int]:
        """The whole answer in a file without a name, at its beginning; and its size in bytes.

        Raises:
            Permanent: as ask; or the answer is too large to be whole, or has what the form has not.
            Transient: too many ask.
        """
        answer = await self._answer(dataset, sql, TO_KEEP)
        if answer.cut:
            raise Permanent(
                f"the answer has more than {TO_KEEP.rows:,} rows", why="a file is whole, or there is none"
            )
        return await asyncio.to_thread(kept, form, lambda sink: write_result(answer.table, sink, form))

    async def _answer(self, dataset: str, sql: str, limits: Limits) -> Answer:
        path = published_file(self._doors, dataset)
        if len(sql) > LONGEST:
            raise Permanent(f"the question is longer than {LONGEST:,} characters", fix="drp sql")
        async with self.turn():
            return await ask(path, sql, limits)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """
        Raises:
            Transient: it did not come in time.
        """
        try:
            async with asyncio.timeout(WAITS):
                await self._turns.acquire()
        except TimeoutError:
            raise Transient(f"{AT_ONCE} others are being answered", fix="ask again in a moment") from None
        try:
            yield
        finally:
            self._turns.release()


def _refusal(error: DrpError) -> Refusal:
    status = 503 if isinstance(error, Transient) else 400
    return Refusal(status=status, what=error.what, why=error.why, fix=error.fix)
