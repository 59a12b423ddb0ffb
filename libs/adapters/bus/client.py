"""The connection to Redis: opened with patience, its errors told as Transient or Permanent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from libs.errors import DrpError, Permanent, Transient

__all__ = [
    "UNREACHABLE",
    "answers_of",
    "check_durability",
    "ensure_groups",
    "open_client",
    "patience",
    "redis_errors",
    "translated",
    "wait_until_ready",
]

logger = logging.getLogger(__name__)

UNREACHABLE: Final = (RedisConnectionError, RedisTimeoutError, OSError)
"""Errors of the way to Redis; a Redis that loads its data counts as one (BusyLoadingError)."""

REFUSED: Final = (AuthenticationError, AuthorizationError, NoPermissionError)
PASSING: Final = (
    "MISCONF",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY ",
    "NOREPLICAS",
    "READONLY",
)


def patience() -> Retry:
    """How a command outlives a restart of Redis: tried again for some seconds.

    A command whose reply was lost is sent twice, so an entry may be appended twice: an event's identity is
    its own, never its entry's.
    """
    return Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), 8)


def open_client(url: str) -> Redis:
    """A client that connects when it is first used."""
    try:
        return Redis.from_url(url, retry=patience(), socket_timeout=5, socket_connect_timeout=5)
    except ValueError as error:
        raise Permanent("cannot read the Redis URL", why=str(error), fix="check DRP_REDIS_URL") from error


async def wait_until_ready(client: Redis, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
    """Wait with back-off until Redis answers and has loaded its data, timeout seconds or as long as it takes.

    Raises:
        Transient: it did not answer in time.
        Permanent: it answers, but refuses us.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    backoff = ExponentialWithJitterBackoff(cap=5.0, base=0.1)
    failures = 0
    while True:
        try:
            with redis_errors("cannot reach Redis"):
                await asyncio.wait_for(
                    client.ping(), None if deadline is None else max(0.05, deadline - time.monotonic())
                )
            return
        except Transient as error:
            failures += 1
            if deadline is not None and time.monotonic() >= deadline:
                raise
            logger.warning("waiting for Redis: %s", error)
        await asyncio.sleep(backoff.compute(failures))


@contextmanager
def redis_errors(what: str) -> Iterator[None]:
    """Let no error of the driver out: `what` failed, and why, as Transient or Permanent."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise translated(error, what) from error


def translated(error: Exception, what: str) -> DrpError:
    why = str(error) or type(error).__name__
    if isinstance(error, REFUSED):
        return Permanent(what, why=why, fix="check user, password and ACL of DRP_REDIS_URL")
    if isinstance(error, (*UNREACHABLE, OutOfMemoryError, ReadOnlyError)):
        return Transient(what, why=why)
    if isinstance(error, ResponseError) and why.startswith(PASSING):
        return Transient(what, why=why)
    return Permanent(what, why=why)


async def answers_of(pipeline: Pipeline, *, but: str | None = None) -> list[Any]:
    """What was asked, answered. An error is raised as Redis gave it: the pipeline's own text hides its kind, and quotes
    the command, what is published included. Those that say `but` are answers."""
    answers: list[Any] = await pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and (but is None or but not in str(answer)):
            raise answer
    return answers


async def ensure_groups(client: Redis, groups: Mapping[str, Sequence[str]]) -> None:
    """Create each stream and group that is missing, from the first entry on: a group made at `$` would never
    be given what was published before its first start."""
    with redis_errors("cannot create the consumer groups"):
        for stream, names in groups.items():
            for group in await _missing(client, stream, names):
                try:
                    await client.xgroup_create(stream, group, id="0", mkstream=True)
                except ResponseError as error:
                    if "BUSYGROUP" not in str(error):
                        raise


async def _missing(client: Redis, stream: str, groups: Sequence[str]) -> list[str]:
    # looked up first: a full Redis refuses XGROUP CREATE also for a group that exists
    if not await client.exists(stream):
        return list(groups)
    made = {details["name"].decode() for details in await client.xinfo_groups(stream)}
    return [group for group in groups if group not in made]


async def check_durability(client: Redis) -> list[str]:
    """What breaks the promise that an acknowledged event is kept, one sentence each."""
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    broken = {
        "appendonly": "a restart loses every event",
        "appendfsync": "a power cut can lose acknowledged events",
        "maxmemory-policy": "a full Redis may evict whole streams",
    }
    with redis_errors("cannot read the settings of Redis"):
        try:
            found = await client.config_get(*wanted)
        except ResponseError as error:
            return [
                f"CONFIG GET is not allowed ({error}): cannot tell whether Redis keeps what it acknowledges"
            ]
        persistence = await client.info("persistence")
    wrong = [
        f"{name} is {found.get(name)!r}, not {value!r}: {broken[name]}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if persistence.get("aof_last_write_status", "ok") != "ok":
        wrong.append("the last write to the append-only file failed: the disk of Redis may be full")
    return wrong
