"""A pool of connections to Postgres, with the settings that the promise needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from libs.adapters.postgres.errors import PostgresRefused, PostgresUnavailable, translated

__all__ = ["Connection", "Postgres", "Row", "copy_rows", "once_it_answers"]

log = logging.getLogger(__name__)

Row: TypeAlias = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

T = TypeVar("T")

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_JSONB_VERSION: Final = b"\x01"

_UNENCODABLE = (TypeError, ValueError, ArithmeticError)
"""What asyncpg raises while it encodes a value that the column's binary form can't hold."""


async def once_it_answers(attempt: Callable[[], Awaitable[T]], *, patience: float) -> T:
    """The result of attempt, tried with back-off while Postgres isn't there.

    Raises:
        PostgresUnavailable: not within patience, in seconds.
        PostgresRefused: it answered, and said no.
    """
    deadline = asyncio.get_running_loop().time() + patience
    pause = _FIRST_PAUSE
    while True:
        try:
            with translated(connecting=True):
                return await attempt()
        except PostgresUnavailable as error:
            if asyncio.get_running_loop().time() + pause > deadline:
                raise
            log.info("waiting for Postgres: %s", error.why)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _document(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return msgspec.json.encode(value)


def _jsonb_out(value: object) -> bytes:
    if type(value) is str:  # what a landing brings by the thousand
        return _JSONB_VERSION + value.encode()
    return _JSONB_VERSION + _document(value)


def _jsonb_in(value: bytes) -> object:
    return msgspec.json.decode(value[1:])


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_jsonb_out, decoder=_jsonb_in, format="binary"
    )
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=_document, decoder=msgspec.json.decode, format="binary"
    )


class Postgres:
    """The door to Postgres. Every driver error leaves as Transient or Permanent, with its sqlstate.

    jsonb: str and bytes are taken as JSON documents, anything else is encoded; reads are decoded. A number so
    read is a float: select `::text` where digits matter. uuid is uuid.UUID, numeric is Decimal.
    """

    def __init__(self, url: str, pool: asyncpg.Pool[asyncpg.Record], *, timeout: float) -> None:
        self.url = url
        self._pool = pool
        self._timeout = timeout

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        service: str,
        min_size: int = 1,
        max_size: int = 5,
        timeout: float = 30,  # noqa: ASYNC109 bounds a loop of attempts, not one await
    ) -> Postgres:
        """A pool whose server has answered; waits for it, up to timeout seconds.

        timeout also bounds the wait for a free connection later on.

        Raises:
            PostgresUnavailable: no server within timeout.
            PostgresRefused: wrong user, password or database.
        """

        async def connect() -> asyncpg.Pool[asyncpg.Record]:
            return await asyncpg.create_pool(
                url,
                min_size=min_size,
                max_size=max_size,
                timeout=min(timeout, 10),
                init=_prepare,
                server_settings={
                    "application_name": f"drp-{service}",
                    "synchronous_commit": "on",
                    "timezone": "UTC",
                },
            )

        return cls(url, await once_it_answers(connect, patience=timeout), timeout=timeout)

    async def close(self) -> None:
        """Give back every connection; those still at work after five seconds are cut."""
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection outside a transaction: each statement commits by itself."""
        with translated(connecting=True):
            held = await self._pool.acquire(timeout=self._timeout)
        try:
            with translated():
                yield held
        finally:
            await self._give_back(held)

    async def _give_back(self, held: PoolConnectionProxy[asyncpg.Record]) -> None:
        """What the block did is done, or has raised: a connection found broken only now fails nobody."""
        try:
            with translated():
                await self._pool.release(held)
        except PostgresUnavailable as error:  # asyncpg has closed it; the next to ask gets a new one
            log.info("a connection to Postgres broke before it was given back: %s", error.why)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commit at the end of the block, roll back if it raises.

        After a PostgresUnavailable the commit may or may not have happened: a retry must be idempotent.
        """
        async with self.connection() as held, held.transaction():
            yield held

    @asynccontextmanager
    async def turn(self, what: str, *, at_most: float) -> AsyncIterator[bool]:
        """Whether this work is ours: then no other process is given it until the block ends.

        It spares replicas the same work; what must not happen twice, the transaction that does it must refuse.
        A process that dies loses its turn at once, one that is paused after at_most seconds.
        """
        async with self.connection() as held:
            # Both the lock and the setting go when the pool takes the connection back.
            await held.execute(
                "SELECT set_config('idle_session_timeout', $1, false)", str(int(at_most * 1000))
            )
            yield await held.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", what)

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        async with self.connection() as held:
            return await held.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        async with self.connection() as held:
            return await held.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: object) -> Any:
        async with self.connection() as held:
            return await held.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> str:
        """Run one statement (or, without arguments, a script); returns its command tag, e.g. `UPDATE 3`."""
        async with self.connection() as held:
            return await held.execute(sql, *args)


async def copy_rows(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    schema: str | None = None,
) -> None:
    """COPY rows, in their order, into table.

    Raises:
        PostgresRefused: a value doesn't fit its column (blames_data), found here or by the server.
    """
    with translated():
        try:
            await connection.copy_records_to_table(
                table, schema_name=schema, columns=list(columns), records=rows
            )
        except _UNENCODABLE as error:
            raise PostgresRefused(
                "a value can't be written to its column", why=type(error).__name__, sqlstate="22000"
            ) from error
