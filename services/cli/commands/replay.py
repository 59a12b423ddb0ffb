"""drp replay, drp rebuild: what was archived or landed, again."""

from __future__ import annotations

import asyncio
import getpass
import sys
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from libs.adapters import telemetry
from libs.errors import Permanent
from libs.operations import reading
from libs.operations.replay import Replayed, Selection, replay
from libs.operations.warehouse import request_rebuild
from services.cli.output import PROBLEMS, Json, counted, say, show_rows, write_json
from services.cli.settings import operator

__all__ = ["register"]


class Source(StrEnum):
    archive = "archive"
    raw = "raw"


DatasetName = Annotated[str | None, typer.Option(help="The dataset; `orders` if there are several.")]
Moment = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Batches closed from/until then, in UTC."),
]


def register(app: typer.Typer) -> None:
    app.command("replay")(replay_command)
    app.command("rebuild")(rebuild)


def replay_command(
    source: Annotated[
        Source, typer.Option("--from", help="Where the events are taken from.")
    ] = Source.archive,
    batch: Annotated[list[str] | None, typer.Option(help="Only this batch; may be repeated.")] = None,
    since: Moment = None,
    until: Moment = None,
    everything: Annotated[bool, typer.Option("--all", help="Every closed batch.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Rebuild from the archive beside the live data, and compare.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be published.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    dataset: DatasetName = None,
    as_json: Json = False,
) -> None:
    """Publish again what was archived or landed, through the same path; it adds no row that is there.

    --verify proves it instead: exit 3 if a rebuild from the archive alone differs from the live data.
    """
    if verify:
        raise typer.Exit(asyncio.run(_verify(dataset, as_json=as_json)))
    if sum((bool(batch), bool(since or until), everything)) != 1:
        raise typer.BadParameter("say which: --batch ID, --since/--until T, or --all")
    asyncio.run(
        _replay(source, batch or [], since, until, dataset, dry_run=dry_run, yes=yes, as_json=as_json)
    )


async def _replay(
    source: Source,
    names: list[str],
    since: datetime | None,
    until: datetime | None,
    dataset: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    async with operator() as platform:
        postgres, bus = await platform.postgres(), await platform.bus()
        chosen = platform.dataset(dataset).name
        batches = [await reading.find_batch_id(postgres, name) for name in names]
        selection = Selection(batches=batches, since=since, until=until)

        async def run(*, dry: bool) -> Replayed:
            with counted("events") as on_progress:
                return await replay(
                    postgres,
                    bus,
                    platform.datasets,
                    objects=await platform.objects() if source is Source.archive else None,
                    source=source.value,
                    selection=selection,
                    dataset=chosen,
                    dry_run=dry,
                    on_progress=on_progress,
                )

        planned = await run(dry=True)
        done = planned
        if not dry_run and (yes or _confirmed(planned)):
            told = telemetry.setup("drp", endpoint=platform.settings.otlp_endpoint, log_format="text")
            try:
                done = await run(dry=False)
            finally:
                told.shutdown()
    if as_json:
        write_json(msgspec.to_builtins(done))
        return
    did = "would publish" if done.dry_run else "published"
    say(f"{did} {done.events:,} events of {done.batches:,} batches again, from {done.source}")


def _confirmed(planned: Replayed) -> bool:
    """Ask on a terminal; elsewhere nobody can answer, so --yes must have been said."""
    question = f"Publish {planned.events:,} events of {planned.batches:,} batches again?"
    if not sys.stdin.isatty():
        raise Permanent("this would publish events, and nobody is there to ask", fix="--yes, or --dry-run")
    return typer.confirm(question, err=True)


async def _verify(dataset: str | None, *, as_json: bool) -> int:
    from libs.operations.verify import verify_replay

    async with operator() as platform:
        say("rebuilding from the archive alone, beside the live data")
        proof = await verify_replay(
            platform.settings, platform.dataset(dataset), await platform.postgres(), await platform.objects()
        )
    document = msgspec.to_builtins(proof)
    if as_json:
        write_json(document)
    else:
        columns = ("name", "live_rows", "rebuilt_rows", "live_hash", "rebuilt_hash", "differences")
        show_rows(document["layers"], as_json=False, columns=columns, empty="")
        for problem in proof.problems:
            say(f"problem: {problem}")
        say("identical, row for row" if proof.identical else "NOT identical")
    return 0 if proof.identical else PROBLEMS


def rebuild(
    full: Annotated[
        bool, typer.Option("--full", help="From all of RAW, not on top of the current generation.")
    ] = False,
    dataset: DatasetName = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "asked for",
    as_json: Json = False,
) -> None:
    """Have the next generation built now, whatever the gate said of it before. Wait: drp batches wait --all"""

    async def run() -> None:
        async with operator() as platform:
            chosen = platform.dataset(dataset).name
            postgres = await platform.postgres()
            async with postgres.transaction() as connection:
                number = await request_rebuild(
                    connection, chosen, full=full, actor=getpass.getuser(), reason=reason
                )
        if as_json:
            write_json({"request": number, "dataset": chosen, "full": full})
        else:
            say(f"asked for a {'full' if full else 'new'} build of {chosen}; see it: drp warehouse ls")

    asyncio.run(run())
