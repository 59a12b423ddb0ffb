"""What Postgres refused, as one of the two errors of the house, with its sqlstate kept.

No value of a row stands in a message: Postgres quotes the offending input in errors of class 22, and the
key's values in a detail. Neither is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from libs.errors import DrpError, Permanent, Transient

__all__ = ["PostgresRefused", "PostgresUnavailable", "named", "translated"]

_TRANSIENT_CLASSES: Final = ("08", "53", "40")
"""Connection exceptions, insufficient resources (disk, memory, connections), transaction rollback."""

_TRANSIENT_STATES: Final = frozenset(
    {
        "57P01",  # admin shutdown
        "57P02",  # crash shutdown
        "57P03",  # cannot connect now: starting, stopping or recovering
        "57P05",  # idle session timeout
        "57014",  # query cancelled, as by a statement timeout
        "55P03",  # lock not available in time
        "25P03",  # idle in transaction for too long
        "25006",  # read-only: a standby after a failover
        "58030",  # input/output error
    }
)
_CLOSED: Final = ("connection is closed", "pool is clos", "closed in the middle", "connection was closed")


class PostgresUnavailable(Transient):
    """Postgres could not do it now. sqlstate is None if it never answered."""

    def __init__(self, what: str, *, why: str, sqlstate: str | None) -> None:
        super().__init__(what, why=why)
        self.sqlstate = sqlstate


class PostgresRefused(Permanent):
    """Postgres will not do it: wrong data, a broken constraint, wrong SQL."""

    def __init__(self, what: str, *, why: str, sqlstate: str | None, fix: str | None = None) -> None:
        super().__init__(what, why=why, fix=fix)
        self.sqlstate = sqlstate

    @property
    def blames_data(self) -> bool:
        """Whether a value was refused (classes 22, 23, 54), rather than the statement."""
        return self.sqlstate is not None and self.sqlstate[:2] in {"22", "23", "54"}


def named(sqlstate: str | None, message: str, kind: str) -> DrpError:
    """The house's error for a driver's. message is Postgres's primary one, kind the name of its class."""
    if sqlstate is None:
        return PostgresUnavailable("Postgres did not answer", why=message, sqlstate=None)
    shown = kind if sqlstate.startswith("22") else message
    why = f"{shown} ({sqlstate})"
    if sqlstate.startswith(_TRANSIENT_CLASSES) or sqlstate in _TRANSIENT_STATES:
        return PostgresUnavailable("Postgres can not do it now", why=why, sqlstate=sqlstate)
    if sqlstate.startswith("28"):
        fix = "set DRP_POSTGRES_URL to a user and password that this server takes"
        return PostgresRefused("Postgres refused to let us in", why=why, sqlstate=sqlstate, fix=fix)
    if sqlstate == "3D000":
        fix = "create the database, or set DRP_POSTGRES_URL to one that exists"
        return PostgresRefused("Postgres has no such database", why=why, sqlstate=sqlstate, fix=fix)
    return PostgresRefused("Postgres refused it", why=why, sqlstate=sqlstate)


def _of_the_client(error: asyncpg.InterfaceError | asyncpg.InternalClientError) -> DrpError:
    text = str(error)
    if isinstance(error, asyncpg.InternalClientError) or any(part in text for part in _CLOSED):
        return named(None, text, type(error).__name__)
    return PostgresRefused("asyncpg refused the call", why=text, sqlstate=None)


@contextmanager
def translated(*, connecting: bool = False) -> Iterator[None]:
    """Driver errors come out as PostgresUnavailable or PostgresRefused.

    Any OSError counts while connecting; afterwards only a lost connection does, since the block may do other
    work of its own.
    """
    try:
        yield
    except asyncpg.InvalidCachedStatementError as error:
        raise PostgresUnavailable(
            "a table changed under a prepared statement", why=type(error).__name__, sqlstate=error.sqlstate
        ) from error
    except asyncpg.PostgresError as error:
        raise named(error.sqlstate, error.message or str(error), type(error).__name__) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _of_the_client(error) from error
    except (ConnectionError, TimeoutError) as error:
        raise named(None, str(error) or type(error).__name__, type(error).__name__) from error
    except OSError as error:
        if not connecting:
            raise
        raise named(None, str(error), type(error).__name__) from error
