"""drp up, down, status, env: the embedded platform as a whole."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from libs.errors import Permanent, Transient
from services.cli.output import (
    PROBLEMS,
    UNREACHABLE,
    Json,
    builtins,
    heading,
    print_text,
    say,
    show_rows,
    write_json,
)

if TYPE_CHECKING:
    from libs.operations.reading import Record
    from libs.runtime.status import PlatformStatus

__all__ = ["register"]

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
    for command in (up, down, status, env):
        app.command()(command)


def _home() -> Path:
    from services.cli.settings import home_folder

    return home_folder()


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once every service is ready.")
    ] = False,
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE=N", help="Replicas of a service, e.g. ingestor=3; or DRP_SCALE."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the platform in DRP_HOME, until Ctrl-C.

    Real servers from installed packages, and every service as a process. --json tells what runs once it is ready.
    """
    from libs.runtime import supervisor
    from libs.runtime.deployed import only_embedded

    only_embedded("up -d")
    home, wanted = _home(), _scale(scale)
    say(f"starting in {home}")
    if not detach:
        supervisor.up(home, scale=wanted, on_progress=_attached(home) if as_json else say)
        return
    supervisor.up(home, detach=True, scale=wanted, on_progress=say)
    found = supervisor.status(home)
    if as_json:
        write_json(found)
    generator = next((part.url for part in found.parts if part.name == "generator"), None)
    say(f"Running. Orders are taken at {generator}/v1/orders")
    say("See the rest: drp status   Stop it: drp down")


def _scale(told: list[str] | None) -> dict[str, int]:
    """What the command says, else what DRP_SCALE does."""
    from libs.runtime.scale import read_scale

    try:
        return read_scale([os.environ.get("DRP_SCALE", "")] if told is None else told)
    except Permanent as error:
        if told is not None:
            raise typer.BadParameter(str(error), param_hint="--scale") from error
        error.what = f"DRP_SCALE: {error.what}"
        raise


def _attached(home: Path) -> Callable[[str], None]:
    """Says each step, and writes the one document when all is ready."""
    from libs.runtime.status import status

    written = False

    def tell(message: str) -> None:
        nonlocal written
        say(message)
        if not written and (found := status(home)).ready:
            written = True
            write_json(found)

    return tell


def down(as_json: Json = False) -> None:
    """Stop what runs in DRP_HOME. The data stays."""
    from libs.runtime import supervisor
    from libs.runtime.deployed import only_embedded

    only_embedded("down")
    home = _home()
    stopped = supervisor.down(home, on_progress=say)
    say(f"stopped what ran in {home}" if stopped else f"nothing runs in {home}")
    if as_json:
        write_json({"home": str(home), "stopped": stopped})


def status(
    health: Annotated[
        bool, typer.Option("--health", help="Also each flow's last 24 hours, and what waits for a person.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show which servers and services run, and whether they are ready.

    Exit 5 if nothing runs. Exit 3 if something isn't ready; with --health also if something waits for a person:
    blocked, late, pinned, unarchived past its deadline, in quarantine, or alerts that reached nobody.
    """
    import msgspec

    found = _look()
    seen, unreachable = None, None
    if health and found.running:
        try:
            seen = asyncio.run(_health())
        except Transient as error:
            unreachable = error
    if as_json:
        document = msgspec.to_builtins(found)
        write_json(document if seen is None else {**document, **seen})
    else:
        _show(found, seen)
    if unreachable is not None:  # told below what could be seen
        raise unreachable
    if not found.running:
        raise typer.Exit(UNREACHABLE)
    needed = seen is not None and any(concern["needs_person"] for concern in seen["concerns"])
    raise typer.Exit(PROBLEMS if needed or not found.ready else 0)


def _look() -> PlatformStatus:
    from libs.runtime.deployed import deployed_status, run_by
    from libs.runtime.settings import ServiceSettings
    from libs.runtime.status import status as look

    return deployed_status(ServiceSettings()) if run_by() else look(_home())


def _show(found: PlatformStatus, seen: dict[str, list[Record]] | None) -> None:
    import msgspec

    rows = [{**msgspec.structs.asdict(part), "pid": str(part.pid or "–")} for part in found.parts]
    empty = f"Nothing runs in {found.home}. Start it: drp up --detach"
    show_rows(rows, as_json=False, columns=_PARTS, empty=empty)
    if seen is None:
        return
    heading("the last 24 hours")
    show_rows(seen["flows"], as_json=False, columns=_FLOWS, empty="No step has run.")
    waiting = [{**one, "": "!" if one["needs_person"] else ""} for one in seen["concerns"] if one["count"]]
    heading("what waits (! for a person)")
    show_rows(waiting, as_json=False, columns=_CONCERNS, empty="Nothing waits.")
    if seen["actions"]:
        heading("what operators did")
        show_rows(seen["actions"], as_json=False, columns=_ACTIONS, empty="")


async def _health() -> dict[str, list[Record]]:
    from libs.operations import health
    from services.cli.settings import operator

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


def env(as_json: Json = False) -> None:
    """Print `export` lines for what runs: eval "$(drp env)"

    URLs, keys and passwords of what runs in DRP_HOME. Exit 5 if nothing does.
    """
    home = _home()
    found = _environment(home)
    if as_json:
        write_json(found)
    else:
        for name, value in sorted(found.items()):
            print_text(f"export {name}={shlex.quote(value)}")
    if not found:
        say(f"Nothing runs in {home}. Start it: drp up --detach")
        raise typer.Exit(UNREACHABLE)


def _environment(home: Path) -> dict[str, str]:
    from libs.runtime.deployed import run_by
    from libs.runtime.layout import shared_environment
    from libs.runtime.settings import ServiceSettings
    from libs.runtime.status import environment

    # Where nothing but the settings knows what runs, they are all there is to tell.
    return shared_environment(home, ServiceSettings(), {}) if run_by() else environment(home)
