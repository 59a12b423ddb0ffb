"""Will retrying help? By sqlstate, without a server."""

from __future__ import annotations

import asyncpg
import pytest

from libs.adapters.postgres import PostgresRefused, PostgresUnavailable
from libs.adapters.postgres.errors import named, translated


@pytest.mark.parametrize(
    ("sqlstate", "what"),
    [
        ("08006", "connection failure"),
        ("40001", "serialization failure"),
        ("40P01", "deadlock"),
        ("53100", "disk full"),
        ("53300", "too many connections"),
        ("55P03", "lock timeout"),
        ("57P01", "admin shutdown"),
        ("57P03", "cannot connect now"),
        ("25006", "read-only after a failover"),
        (None, "no answer"),
    ],
)
def test_what_passes_is_transient(sqlstate: str | None, what: str) -> None:
    error = named(sqlstate, what, "Kind")

    assert isinstance(error, PostgresUnavailable)
    assert error.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "blames_data"),
    [("22003", True), ("23505", True), ("54000", True), ("42601", False), ("42P01", False), ("28P01", False)],
)
def test_what_stays_is_permanent(sqlstate: str, blames_data: bool) -> None:
    error = named(sqlstate, "message", "Kind")

    assert isinstance(error, PostgresRefused)
    assert (error.sqlstate, error.blames_data) == (sqlstate, blames_data)


def test_a_data_error_is_named_by_its_kind_since_its_message_quotes_the_value() -> None:
    assert "secret" not in str(
        named("22P02", 'invalid input syntax: "secret"', "InvalidTextRepresentationError")
    )


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (asyncpg.InterfaceError("connection is closed"), PostgresUnavailable),
        (asyncpg.InterfaceError("pool is closing"), PostgresUnavailable),
        (
            asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"),
            PostgresRefused,
        ),
        (asyncpg.InternalClientError("got result for unknown protocol state 3"), PostgresUnavailable),
        (asyncpg.InvalidCachedStatementError("cached plan must not change result type"), PostgresUnavailable),
        (ConnectionResetError(), PostgresUnavailable),
        (TimeoutError(), PostgresUnavailable),
        (FileNotFoundError("a file of the block's own"), FileNotFoundError),
    ],
)
def test_what_the_driver_raises_leaves_as_one_of_the_houses_errors(
    raised: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught, translated():
        raise raised

    assert type(caught.value) is expected


def test_while_connecting_any_operating_system_error_is_a_server_that_is_not_there() -> None:
    with pytest.raises(PostgresUnavailable), translated(connecting=True):
        raise OSError("No route to host")
