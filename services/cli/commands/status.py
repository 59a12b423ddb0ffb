"""drp status: which servers and services run, and how they are; once, or again and again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from libs.errors import DrpError
from services.cli.commands.pulling import seconds_of
from services.cli.output import (
    PROBLEMS,
    UNREACHABLE,
    Json,
    builtins,
    heading,
    print_text,
    redrawn,
    say,
    show_rows,
    write_json,
    write_json_line,
)
from services.cli.settings import home_folder, operator

if TYPE_CHECKING:
    from libs.operations.reading import Record
    from libs.runtime.status import PlatformStatus

__all__ = ["register"]

EVERY: Final = 2.0

_PARTS: Final = ("name", "kind", "ready", "url", "pid", "restarts", "detail")
_FLOWS: Final = (
    "flow_name",
    "runs",
    "failed",
    "success_rate",
    "p95_seconds",
    "last_run_at",
    "last_failed_at",
    "last_error",
)
_CONCERNS: Final = ("", "what", "count", "since", "meaning", "next")
_ACTIONS: Final = ("at", "actor", "action", "subject", "reason")


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def status(
    health: Annotated[
        bool, typer.Option("--health", help="Also each flow's last 24 hours, and what waits for a person.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --watch: so long between two looks. [default: 2s]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which servers and services run, and whether they are ready.

    Exit 5 if nothing runs. Exit 3 if something isn't ready; with --health also if something waits for a person:
    blocked, late, pinned, unarchived past its deadline, in quarantine, or alerts that reached nobody.

    --watch goes on whatever it finds; with --json it writes a line for each look.
    """
    if every is not None and not watch:
        raise typer.BadParameter("--every is for --watch")
    if watch:
        _watch(health=health, every=seconds_of(every) or EVERY, as_json=as_json)
    seen = _look(health=health)
    if as_json:
        write_json(seen.document)
    else:
        _show(seen)
    if seen.unreachable is not None:  # told below what could be seen
        raise seen.unreachable
    raise typer.Exit(seen.code)


@dataclass(frozen=True)
class _Seen:
    """What a look found. health: None if it wasn't asked for, or could not be asked: why, in unreachable."""

    platform: PlatformStatus
    health: dict[str, list[Record]] | None = None
    unreachable: DrpError | None = None

    @property
    def document(self) -> dict[str, Any]:
        return {**builtins(self.platform), **(self.health or {})}

    @property
    def code(self) -> int:
        if not self.platform.running:
            return UNREACHABLE
        needed = self.health is not None and any(one["needs_person"] for one in self.health["concerns"])
        return PROBLEMS if needed or not self.platform.ready else 0


def _watch(*, health: bool, every: float, as_json: bool) -> NoReturn:
    """Look until the process is interrupted."""
    with nullcontext(None) if as_json else redrawn() as draw:
        while True:
            with _settings_as_they_were():
                if draw is None:
                    write_json_line(_dated(_look(health=health)))
                else:
                    draw(lambda: _show_dated(_look(health=health), every))
            time.sleep(every)


def _dated(seen: _Seen) -> dict[str, object]:
    unreachable = None if seen.unreachable is None else str(seen.unreachable)
    return {"at": datetime.now(UTC), "unreachable": unreachable, **seen.document}


def _show_dated(seen: _Seen, every: float) -> None:
    print_text(
        f"{seen.platform.home}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, every {every:g} s until Ctrl-C\n"
    )
    _show(seen)
    if seen.unreachable is not None:
        say(f"\n{seen.unreachable}")


@contextmanager
def _settings_as_they_were() -> Iterator[None]:
    """What a look takes over from the running platform is of that look: the next may find it at other ports."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _look(*, health: bool) -> _Seen:
    from libs.runtime.deployed import deployed_status, run_by
    from libs.runtime.settings import ServiceSettings
    from libs.runtime.status import status as look

    found = deployed_status(ServiceSettings()) if run_by() else look(home_folder())
    if not health or not found.running:
        return _Seen(found)
    try:
        return _Seen(found, asyncio.run(_health()))
    except DrpError as error:
        return _Seen(found, unreachable=error)


def _show(seen: _Seen) -> None:
    found, health = seen.platform, seen.health
    rows = [{**part, "pid": str(part["pid"] or "–")} for part in builtins(found.parts)]
    empty = f"Nothing runs in {found.home}. Start it: drp up --detach"
    show_rows(rows, as_json=False, columns=_PARTS, empty=empty)
    if health is None:
        return
    heading("the last 24 hours")
    show_rows(health["flows"], as_json=False, columns=_FLOWS, empty="No step has run.")
    waiting = [{**one, "": "!" if one["needs_person"] else ""} for one in health["concerns"] if one["count"]]
    heading("what waits (! for a person)")
    show_rows(waiting, as_json=False, columns=_CONCERNS, empty="Nothing waits.")
    if health["actions"]:
        heading("what operators did")
        show_rows(health["actions"], as_json=False, columns=_ACTIONS, empty="")


async def _health() -> dict[str, list[Record]]:
    from libs.operations import health

    async with operator() as platform:
        postgres, settings = await platform.postgres(), platform.settings
        found = await health.concerns(
            postgres,
            deadline=settings.batch_deadline,
            max_age=settings.batch_max_age,
            archive=settings.archive != "off",
        )
        return {
            "flows": await health.flow_health(postgres),
            "concerns": builtins(found),
            "actions": await health.recent_actions(postgres),
        }
