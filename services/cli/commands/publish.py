"""drp publish: a file's rows become events."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from libs.adapters import telemetry
from libs.operations.publish import publish_file
from services.cli.output import Json, say, write_json
from services.cli.settings import operator

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command("publish")(publish)


def publish(
    file: Annotated[Path, typer.Option("--file", "-f", help="CSV, JSON Lines or Parquet; gzip too.")],
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="The file's column for a field of the contract."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The events' source; urn:drp:file:NAME if left out.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset; `orders` if there are several.")] = None,
    time: Annotated[
        datetime | None, typer.Option(help="The events' time where a row has none of its own.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Events a second, at most.")] = None,
    as_json: Json = False,
) -> None:
    """Publish a file's rows. Published twice it adds nothing; a line that is no row goes to quarantine."""
    fields = dict(_pair(each) for each in mapping or ())

    async def run() -> None:
        async with operator() as platform:
            settings = platform.settings
            told = telemetry.setup("drp", endpoint=settings.otlp_endpoint, log_format="text")
            chosen = platform.dataset(dataset)
            try:
                with _progress() as on_progress:
                    done = await publish_file(
                        await platform.bus(),
                        chosen,
                        file,
                        mapping=fields,
                        source=source,
                        time=time,
                        rate=rate,
                        on_progress=on_progress,
                    )
            finally:
                told.shutdown()
        if as_json:
            write_json(msgspec.to_builtins(done))
            return
        pace = done.events / done.seconds if done.seconds else 0
        say(
            f"published {done.events:,} events in {done.seconds:.1f} s ({pace:,.0f} a second) as {done.source}"
        )
        if done.unreadable:
            say(f"{done.unreadable:,} lines are no rows; see them: drp quarantine ls --reason unreadable")
        say("wait until readers see them: drp batches wait --all")

    asyncio.run(run())


def _pair(text: str) -> tuple[str, str]:
    field, separator, column = text.partition("=")
    if not separator or not field or not column:
        raise typer.BadParameter(f"{text!r} is not FIELD=COLUMN", param_hint="--map")
    return field, column


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} a second")


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Events so far and their rate, on a terminal; silent elsewhere."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} events"), _Rate(), TimeElapsedColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("publish", total=None)
        yield lambda events: bar.update(task, completed=events)
