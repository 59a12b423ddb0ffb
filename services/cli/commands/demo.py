"""drp demo: the whole story on a platform of its own, with a measured report."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from libs.errors import Permanent
from services.cli.output import PROBLEMS, Json, say, write_json

if TYPE_CHECKING:
    from services.cli.demo.report import Report

__all__ = ["register"]

_ORDERS: Final = Path(__file__).parents[3] / "tests" / "data" / "cdnow_orders.csv.gz"


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    folder: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Its data goes into FOLDER/demo, which is wiped first.")
    ] = Path(".drp"),
    orders: Annotated[
        Path, typer.Option(metavar="FILE", help="The real orders.", show_default=False)
    ] = _ORDERS,
    as_json: Json = False,
) -> None:
    """Tell the whole story on a platform of its own, and measure it.

    Publish real and faulty orders, kill the ingestor, block a batch, replay, verify. Exit 3 if an invariant does
    not hold.
    """
    from libs.runtime.deployed import run_by

    if command := run_by():
        why = f"this platform is run by {command}, and the demo starts one of its own"
        raise Permanent("no demo here", why=why, fix="make demo, in a clone of the repository")
    if not orders.is_file():
        raise Permanent(f"{orders} is missing", why="the demo publishes real orders", fix="--orders FILE")
    from libs.runtime import supervisor
    from services.cli.demo.report import Report

    began = time.monotonic()
    home, report = folder.absolute() / "demo", Report()
    _forget_other_platforms()
    supervisor.down(home, on_progress=say)
    shutil.rmtree(home, ignore_errors=True)
    os.environ["DRP_HOME"] = str(home)
    try:
        supervisor.up(home, detach=True)
        report.seconds_to_ready = round(time.monotonic() - began, 1)
        say(f"the platform is ready after {report.seconds_to_ready} s, in {home}")
        asyncio.run(_tell(home, orders, report))
    finally:
        supervisor.down(home)
    report.seconds = round(time.monotonic() - began, 1)
    target = folder.absolute() / "demo-report.json"
    report.write(target)
    write_json(report) if as_json else _conclude(report, home, target)
    raise typer.Exit(0 if report.passed else PROBLEMS)


async def _tell(home: Path, orders: Path, report: Report) -> None:
    from services.cli.demo.story import Story
    from services.cli.settings import operator

    async with operator() as platform:
        await Story(platform, report, home=home, orders=orders, tell=say).tell()


def _forget_other_platforms() -> None:
    """The demo runs on servers of its own, whatever the shell points at."""
    for name in list(os.environ):
        if name.startswith(("DRP_", "OTEL_", "AWS_")):
            del os.environ[name]


def _conclude(report: Report, home: Path, target: Path) -> None:
    """The figures, the invariants, and where to look around."""
    import msgspec

    width = max(len(check.name) for check in report.checks)
    typer.echo("\ninvariants")
    for check in report.checks:
        typer.echo(f"  {'held  ' if check.held else 'BROKEN'}  {check.name:<{width}}  {_brief(check.found)}")
    typer.echo("\nmeasured")
    for name, value in msgspec.structs.asdict(report).items():
        if name != "checks":
            shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
            typer.echo(f"  {name.replace('_', ' '):<22}{shown}")
    broken = sum(not check.held for check in report.checks)
    typer.echo(
        f"\n{'every invariant held' if not broken else f'{broken} invariants are broken'}; report: {target}"
    )
    drp = ".venv/bin/drp"
    typer.echo(
        f"look around: export DRP_HOME={home}; {drp} up --detach; {drp} batches ls; {drp} trace last; {drp} down"
    )


def _brief(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
