"""What runs in a data folder: asked by `drp` from another terminal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import msgspec

from libs.runtime.embedded.server import listens
from libs.runtime.home import Home, Part
from libs.runtime.readiness import readiness

__all__ = ["PartStatus", "PlatformStatus", "environment", "is_ready", "status"]


class PartStatus(msgspec.Struct, kw_only=True):
    """One process; detail says what is wrong with it, if anything. pid and restarts are None where something else
    than the supervisor starts it."""

    name: str
    kind: str
    pid: int | None
    port: int
    url: str
    restarts: int | None
    ready: bool
    detail: str | None


class PlatformStatus(msgspec.Struct, kw_only=True):
    """What runs in a data folder, or where the settings say."""

    home: str
    running: bool
    ready: bool
    pid: int | None
    started_at: datetime | None
    parts: list[PartStatus]


def status(home: Path) -> PlatformStatus:
    """What runs in home now. Asks every part."""
    place = Home(home)
    state = place.running()
    if state is None:
        return PlatformStatus(
            home=str(place.folder), running=False, ready=False, pid=None, started_at=None, parts=[]
        )
    # Asked together: one that hangs holds up none of the others.
    with ThreadPoolExecutor(max(1, len(state.parts))) as pool:
        parts = list(pool.map(_part_status, state.parts))
    return PlatformStatus(
        home=str(place.folder),
        running=True,
        ready=state.ready and all(part.ready for part in parts),
        pid=state.pid,
        started_at=state.started_at,
        parts=parts,
    )


def is_ready(home: Path) -> bool:
    """Whether what runs in home was ready when its supervisor last looked. Asks nothing else."""
    state = Home(home).running()
    return state is not None and state.ready


def environment(home: Path) -> dict[str, str]:
    """The settings to reach what runs in home, DRP_REDIS_URL to DRP_CONSOLE_URL; empty if nothing runs."""
    state = Home(home).running()
    return {} if state is None else state.environment


def _part_status(part: Part) -> PartStatus:
    alive = part.process is not None and part.process.alive
    if not alive:
        detail: str | None = "not running; the supervisor starts it again"
    elif part.kind == "service":
        detail = readiness(part.port, pid=part.pid)
    else:
        detail = None if listens(part.port) else "does not answer"
    return PartStatus(
        name=part.name,
        kind=part.kind,
        pid=part.pid if alive else None,
        port=part.port,
        url=part.url,
        restarts=part.restarts,
        ready=detail is None,
        detail=detail,
    )
