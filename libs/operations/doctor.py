"""Does `acknowledged` mean what it says here? The settings of the servers that the promise rests on, asked of them."""

from __future__ import annotations

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
    """fsync, full_page_writes and synchronous_commit: without them a commit can be undone by a power loss."""
    found = {row["name"]: row["setting"] for row in await postgres.fetch(_SETTINGS)}
    return judge_postgres(found)


def judge_postgres(settings: Mapping[str, str]) -> list[Finding]:
    findings = [
        Finding(
            check="postgres",
            state="problem",
            detail=f"{name} is {settings[name]}: a commit can be lost",
            fix=f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()",
        )
        for name in ("fsync", "full_page_writes", "synchronous_commit")
        if settings[name] in ("off", "local")
    ]
    if int(settings["server_version_num"]) < _OLDEST_POSTGRES:
        findings.append(
            Finding(
                check="postgres",
                state="problem",
                detail=f"PostgreSQL {settings['server_version']} is older than 15",
                fix="PostgreSQL 15 or newer",
            )
        )
    return findings or [
        Finding(
            check="postgres",
            state="ok",
            detail=f"PostgreSQL {settings['server_version']} keeps what it commits",
        )
    ]


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
