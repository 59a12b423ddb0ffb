"""drp up, down, status, env: the embedded platform as a whole."""

from __future__ import annotations

import asyncio
import shlex
from typing import Annotated

import msgspec
import typer

from libs.operations import reading
from libs.runtime import supervisor
from services.cli.output import PROBLEMS, UNREACHABLE, Json, say, show_rows, write_json
from services.cli.settings import home_folder, operator

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    for command in (up, down, status, env):
        app.command()(command)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once every service is ready.")
    ] = False,
) -> None:
    """Start the platform in DRP_HOME: servers from installed packages, every service, until Ctrl-C."""
    say(f"starting in {home_folder()}")
    supervisor.up(home_folder(), detach=detach, on_progress=say)
    if detach:
        parts = supervisor.status(home_folder()).parts
        generator = next((part.url for part in parts if part.name == "generator"), None)
        say(
            f"running; orders are taken at {generator}/v1/orders, `drp status` shows the rest, `drp down` stops it"
        )


def down() -> None:
    """Stop what runs in DRP_HOME; the data stays."""
    if not supervisor.down(home_folder(), on_progress=say):
        say(f"nothing runs in {home_folder()}")


def status(
    health: Annotated[bool, typer.Option("--health", help="Also the last 24 hours of each flow.")] = False,
    as_json: Json = False,
) -> None:
    """What runs, and whether it is ready. Exit 5 if nothing runs, 3 if something isn't ready."""
    found = supervisor.status(home_folder())
    flows = asyncio.run(_flows()) if health else None
    if as_json:
        document = msgspec.to_builtins(found)
        write_json(document if flows is None else {**document, "flows": flows})
    else:
        rows = [msgspec.structs.asdict(part) for part in found.parts]
        columns = ("name", "ready", "url", "pid", "restarts", "detail")
        show_rows(
            [{**row, "url": row["url"].rpartition("@")[2]} for row in rows],
            as_json=False,
            columns=columns,
            empty=f"Nothing runs in {home_folder()}. Start it: drp up --detach",
        )
        if flows is not None:
            say("\nthe last 24 hours")
            show_rows(
                flows,
                as_json=False,
                columns=("flow_name", "runs", "failed", "success_rate", "p95_seconds", "last_error"),
                empty="No step has run.",
            )
    if not found.running:
        raise typer.Exit(UNREACHABLE)
    raise typer.Exit(0 if found.ready else PROBLEMS)


async def _flows() -> list[reading.Record]:
    async with operator() as platform:
        return await reading.flow_health(await platform.postgres())


def env(as_json: Json = False) -> None:
    """Print `export` lines for what runs in DRP_HOME: eval "$(drp env)"."""
    found = supervisor.environment(home_folder())
    if as_json:
        write_json(found)
    else:
        for name, value in sorted(found.items()):
            typer.echo(f"export {name}={shlex.quote(value)}")
    if not found:
        say(f"nothing runs in {home_folder()}. Start it: drp up --detach")
        raise typer.Exit(UNREACHABLE)
