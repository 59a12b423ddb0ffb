"""Does `acknowledged` mean what it says here? The settings of the servers that the promise rests on, asked of them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from libs.adapters.bus import Bus
    from libs.adapters.objects import Objects
    from libs.adapters.postgres import Postgres

__all__ = ["Finding", "examine_disk", "examine_objects", "examine_postgres", "examine_redis"]

_GIB: Final = 1024**3
_LOW_DISK: Final = 2 * _GIB
_OLDEST_POSTGRES: Final = 150_000
_LOSSY: Final = frozenset({"off", "local"})
_TURN_ON: Final = "ALTER SYSTEM SET {} = on; SELECT pg_reload_conf()"

_SETTINGS: Final = """
-- one row per setting that durability rests on
SELECT name, setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'server_version_num', 'server_version')
"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. A problem breaks the promise; a warning limits what works."""

    check: str
    state: Literal["ok", "warning", "problem"]
    detail: str
    fix: str | None = None


async def examine_redis(bus: Bus) -> list[Finding]:
    """appendonly, appendfsync always and noeviction: without them an acknowledged XADD can vanish."""
    broken = await bus.check_durability()
    if not broken:
        return [
            Finding(
                check="redis", state="ok", detail="every acknowledged XADD is on the disk, nothing is evicted"
            )
        ]
    fix = "CONFIG SET appendonly yes, appendfsync always, maxmemory-policy noeviction"
    return [Finding(check="redis", state="problem", detail=each, fix=fix) for each in broken]


async def examine_postgres(postgres: Postgres) -> list[Finding]:
    """fsync, full_page_writes and synchronous_commit: without them a commit can be undone by a power loss.

    The platform's sessions ask for synchronous_commit themselves: that others don't get it is worth a warning.
    """
    ours = {row["name"]: row["setting"] for row in await postgres.fetch(_SETTINGS)}
    theirs = await asyncio.to_thread(_of_any_session, postgres.url)
    return judge_postgres(ours, theirs)


def _of_any_session(url: str) -> dict[str, str]:
    """What a session gets that asks for nothing."""
    from libs.adapters.postgres.arrow import read_arrow

    with read_arrow(url, _SETTINGS) as rows:
        return {row["name"]: row["setting"] for row in rows.read_all().to_pylist()}


def judge_postgres(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[Finding]:
    """What the settings of the platform's sessions break, and those of any other."""
    findings = [
        Finding(
            check="postgres",
            state="problem",
            detail=f"{name} is {ours[name]}: a commit can be lost",
            fix=_TURN_ON.format(name),
        )
        for name in ("fsync", "full_page_writes", "synchronous_commit")
        if ours[name] in _LOSSY
    ]
    if int(ours["server_version_num"]) < _OLDEST_POSTGRES:
        findings.append(
            Finding(
                check="postgres",
                state="problem",
                detail=f"PostgreSQL {ours['server_version']} is older than 15",
                fix="PostgreSQL 15 or newer",
            )
        )
    name = "synchronous_commit"
    if theirs[name] in _LOSSY and ours[name] not in _LOSSY:
        detail = (
            f"{name} is {theirs[name]} but for the platform's own sessions: what others commit can be lost"
        )
        findings.append(Finding(check="postgres", state="warning", detail=detail, fix=_TURN_ON.format(name)))
    kept = f"PostgreSQL {ours['server_version']} keeps what it commits"
    return findings or [Finding(check="postgres", state="ok", detail=kept)]


def examine_disk(folder: Path) -> Finding:
    """Room for the next generations: one is as large as the last."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"{free / _GIB:.1f} GiB free at {place}"
    if free < _LOW_DISK:
        return Finding(
            check="disk", state="warning", detail=text, fix="free some space, or set DRP_HOME elsewhere"
        )
    return Finding(check="disk", state="ok", detail=text)


async def examine_objects(objects: Objects) -> Finding:
    """That the bucket answers. Looks only: the archiver makes it.

    Raises:
        Transient, Permanent: it does not answer, or refuses us.
    """
    from libs.adapters.objects import BucketMissing

    try:
        async for _ in objects.list("raw/"):
            break
    except BucketMissing:
        return Finding(
            check="archive",
            state="warning",
            detail=f"there is no bucket {objects.bucket} yet",
            fix="drp status (the archiver makes it)",
        )
    return Finding(check="archive", state="ok", detail=f"bucket {objects.bucket} answers")
