"""What Postgres refuses, and how a pool outlives it, on a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from libs.adapters.postgres import Postgres, PostgresRefused, PostgresUnavailable, copy_rows
from libs.adapters.postgres.arrow import read_arrow
from libs.adapters.postgres.errors import translated
from libs.runtime.processes import free_port
from libs.testing.waiting import until


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(postgres_url, service="test")
    yield opened
    await opened.close()


async def test_a_lost_connection_is_transient_and_the_pool_goes_on(postgres: Postgres) -> None:
    with pytest.raises(PostgresUnavailable) as caught:
        await postgres.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")

    assert caught.value.sqlstate in {"57P01", "08003", None}
    assert await postgres.fetchval("SELECT 1") == 1


async def test_a_connection_lost_within_a_transaction_is_transient(postgres: Postgres) -> None:
    async def lose_it() -> None:
        async with postgres.transaction() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await postgres.execute("SELECT pg_terminate_backend($1)", pid)
            await connection.execute("CREATE TABLE never (id int)")

    with pytest.raises(PostgresUnavailable):
        await lose_it()
    assert await postgres.fetchval("SELECT to_regclass('never')") is None


async def test_a_connection_that_breaks_after_its_work_fails_nobody(
    postgres: Postgres, postgres_url: str
) -> None:
    async with postgres.connection() as held:
        pid = await held.fetchval("SELECT pg_backend_pid()")
        # Nothing is awaited from here on: the loop learns of the end only when the connection is given back.
        with read_arrow(postgres_url, "SELECT pg_terminate_backend($1::int, 5000)", [pid]) as reader:
            assert reader.read_all().column(0).to_pylist() == [True]

    assert await postgres.fetchval("SELECT 1") == 1


async def test_a_deadlock_is_transient(postgres: Postgres) -> None:
    await postgres.execute("CREATE TABLE two (id int PRIMARY KEY, n int)")
    await postgres.execute("INSERT INTO two VALUES (1, 0), (2, 0)")
    both_hold = asyncio.Barrier(2)

    async def cross(first: int, second: int) -> None:
        async with postgres.transaction() as connection:
            await connection.execute("SET LOCAL deadlock_timeout = '50ms'")
            await connection.execute("UPDATE two SET n = n + 1 WHERE id = $1", first)
            await both_hold.wait()
            await connection.execute("UPDATE two SET n = n + 1 WHERE id = $1", second)

    outcomes = await asyncio.gather(cross(1, 2), cross(2, 1), return_exceptions=True)

    (failed,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(failed, PostgresUnavailable)
    assert failed.sqlstate == "40P01"


async def test_a_lock_that_is_not_free_in_time_is_transient(postgres: Postgres) -> None:
    await postgres.execute("CREATE TABLE one (id int)")
    async with postgres.transaction() as holder, postgres.connection() as waiter:
        await holder.execute("LOCK one")
        await waiter.execute("SET lock_timeout = '20ms'")
        with pytest.raises(PostgresUnavailable) as caught, translated():
            await waiter.execute("TRUNCATE one")

    assert caught.value.sqlstate == "55P03"


@pytest.mark.parametrize(
    ("sql", "sqlstate", "blames_data"),
    [
        ("SELECT 'a secret'::int", "22P02", True),
        ("SELECT 1 / 0", "22012", True),
        ("INSERT INTO ops.inbox (consumer) VALUES ('a')", "23502", True),
        ("SELEC", "42601", False),
        ("SELECT * FROM ops.nowhere", "42P01", False),
    ],
)
async def test_what_retrying_can_not_help_is_permanent_and_quotes_no_value(
    postgres: Postgres, sql: str, sqlstate: str, blames_data: bool
) -> None:
    with pytest.raises(PostgresRefused) as caught:
        await postgres.fetch(sql)

    assert caught.value.sqlstate == sqlstate
    assert caught.value.blames_data is blames_data
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [2**70, "text", object()])
async def test_a_value_that_has_no_binary_form_blames_the_data(postgres: Postgres, value: object) -> None:
    await postgres.execute("CREATE TABLE numbers (n bigint)")
    async with postgres.connection() as connection:
        with pytest.raises(PostgresRefused) as caught:
            await copy_rows(connection, "numbers", ["n"], [(1,), (value,)])

    assert caught.value.blames_data
    assert await postgres.fetchval("SELECT count(*) FROM numbers") == 0


async def test_no_server_is_transient_after_the_given_patience() -> None:
    with pytest.raises(PostgresUnavailable):
        await Postgres.open(f"postgresql://x@127.0.0.1:{free_port()}/x", service="test", timeout=0.2)


async def test_a_database_that_is_not_there_is_named_with_the_fix(postgres_url: str) -> None:
    with pytest.raises(PostgresRefused, match=r"no such database.*Try: .*DRP_POSTGRES_URL"):
        await Postgres.open(postgres_url.replace("?", "_not?"), service="test", timeout=5)


async def test_documents_go_in_as_text_or_values_and_come_out_as_values(postgres: Postgres) -> None:
    given = [b'{"a": [1]}', '{"a": [1]}', {"a": [1]}]
    read = [await postgres.fetchval("SELECT $1::jsonb", value) for value in given]

    assert read == [{"a": [1]}] * 3
    assert await postgres.fetchval("SELECT gen_random_uuid()") != uuid.UUID(int=0)


async def test_the_connection_waits_for_the_disk_and_names_itself(postgres: Postgres) -> None:
    assert await postgres.fetchval("SHOW synchronous_commit") == "on"
    assert await postgres.fetchval("SHOW application_name") == "drp-test"


def test_columns_are_read_as_arrow_batches(postgres_url: str) -> None:
    sql = "SELECT n, (n::numeric / 3)::numeric(12,2)::text AS amount FROM generate_series($1::int, $2::int) n"
    with read_arrow(postgres_url, sql, [1, 3]) as reader:
        assert reader.read_all().to_pydict() == {"n": [1, 2, 3], "amount": ["0.33", "0.67", "1.00"]}


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT * FROM ops.nowhere", PostgresRefused),
        ("SELECT pg_terminate_backend(pg_backend_pid())", PostgresUnavailable),
    ],
)
def test_errors_of_arrow_reads_are_the_houses_own(
    postgres_url: str, sql: str, error: type[Exception]
) -> None:
    with pytest.raises(error), read_arrow(postgres_url, sql) as reader:
        reader.read_all()


async def test_a_turn_is_one_process_s_at_a_time(postgres: Postgres, postgres_url: str) -> None:
    other = await Postgres.open(postgres_url, service="test")
    async with postgres.turn("this", at_most=60) as ours:
        assert ours
        async with other.turn("this", at_most=60) as theirs, other.turn("that", at_most=60) as that:
            assert (theirs, that) == (False, True)
    async with other.turn("this", at_most=60) as theirs:
        assert theirs
    await other.close()


async def test_a_turn_ends_with_its_process_and_with_its_time(postgres: Postgres, postgres_url: str) -> None:
    other = await Postgres.open(postgres_url, service="test")

    async def is_free(what: str) -> bool:
        async with other.turn(what, at_most=60) as theirs:
            return theirs

    async with (
        postgres.turn("of one that dies", at_most=60),
        postgres.turn("of one that sleeps", at_most=0.2),
    ):
        holders = (
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1::oid"
        )
        low = await other.fetchval(
            "SELECT (hashtextextended('of one that dies', 0) & 4294967295)::text::oid::text"
        )
        assert not await is_free("of one that dies")
        assert await other.fetchval(holders, int(low))
        await until(lambda: is_free("of one that dies"))
        await until(lambda: is_free("of one that sleeps"))
    assert await postgres.fetchval("SHOW idle_session_timeout") == "0"
    await other.close()
