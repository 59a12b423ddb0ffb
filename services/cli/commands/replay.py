"""drp replay, drp rebuild: what was archived or landed, again."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from services.cli import completing
from services.cli.asking import DryRun, Why, Yes, actor, confirmed
from services.cli.output import PROBLEMS, Json, counted, number, say, say_too_large, show_rows, write_json
from services.cli.settings import Operator, operator

if TYPE_CHECKING:
    from libs.operations.replay import Replayed, Selection

__all__ = ["register"]


class Source(StrEnum):
    archive = "archive"
    raw = "raw"


DatasetName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", autocompletion=completing.datasets, help="The dataset; `orders` if there are several."
    ),
]
_MOMENTS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def register(app: typer.Typer) -> None:
    app.command("replay")(replay_command)
    app.command("rebuild")(rebuild)


@dataclass(frozen=True)
class _Wanted:
    source: Source
    batches: list[str]
    since: datetime | None
    until: datetime | None
    dataset: str | None


def replay_command(
    source: Annotated[
        Source, typer.Option("--from", help="Where the events are taken from.")
    ] = Source.archive,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BATCH", autocompletion=completing.batches, help="Only this batch. May be repeated."
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", formats=_MOMENTS, help="Batches closed from then on, in UTC."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", formats=_MOMENTS, help="Batches closed before then, in UTC."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every closed batch.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Rebuild from the archive beside the live data, and compare.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    dataset: DatasetName = None,
    as_json: Json = False,
) -> None:
    """Publish again what was archived or landed.

    It takes the same path as everything else, and adds no row that is there. Exit 3 if an event is too large and
    was left out.

    --verify publishes nothing, and proves it: exit 3 if a rebuild from the archive alone differs from the live
    data.
    """
    chosen = sum((bool(batch), bool(since or until), everything))
    if verify:
        if chosen or dry_run or source is not Source.archive:
            raise typer.BadParameter("--verify rebuilds from all of the archive: give it --dataset only")
        raise typer.Exit(asyncio.run(_verify(dataset, as_json=as_json)))
    if chosen != 1:
        raise typer.BadParameter("say which: --batch ID, --since/--until TIME, or --all")
    wanted = _Wanted(source, batch or [], since, until, dataset)
    raise typer.Exit(asyncio.run(_replay(wanted, dry_run=dry_run, yes=yes, as_json=as_json)))


async def _replay(wanted: _Wanted, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    from libs.operations import reading
    from libs.operations.replay import Selection

    async with operator() as platform:
        postgres = await platform.postgres()
        batches = [await reading.find_batch_id(postgres, name) for name in wanted.batches]
        selection = Selection(batches=batches, since=wanted.since, until=wanted.until)
        done = await _run(platform, wanted, selection, dry_run=True)
        if not dry_run:
            if not await confirmed(f"Publish {_amount(done)} again?", yes=yes):
                return 1
            done = await _run(platform, wanted, selection, dry_run=False)
    if as_json:
        write_json(done)
    did = "would publish" if done.dry_run else "published"
    say(f"{did} {_amount(done)} again, from {done.source}")
    say_too_large(done.too_large)
    if done.refused:
        events = number(done.refused, "refused event", "refused events")
        say(f"{events} stay in the archive: drp archive get {done.refused_documents[0]} | gunzip")
    return PROBLEMS if done.too_large else 0


def _amount(planned: Replayed) -> str:
    batches = number(planned.batches, "batch", "batches")
    return f"{number(planned.events, 'event', 'events')} of {batches}"


async def _run(platform: Operator, wanted: _Wanted, selection: Selection, *, dry_run: bool) -> Replayed:
    from libs.operations.replay import replay

    bus, postgres = await platform.bus(), await platform.postgres()
    objects = await platform.objects() if wanted.source is Source.archive else None
    with nullcontext() if dry_run else platform.traced(), counted("events") as on_progress:
        return await replay(
            postgres,
            bus,
            platform.datasets,
            objects=objects,
            source=wanted.source.value,
            selection=selection,
            dataset=platform.dataset(wanted.dataset).name,
            dry_run=dry_run,
            actor=actor(),
            on_progress=on_progress,
        )


async def _verify(dataset: str | None, *, as_json: bool) -> int:
    import msgspec

    from libs.operations.verify import verify_replay

    async with operator() as platform:
        postgres, objects = await platform.postgres(), await platform.objects()
        say("rebuilding from the archive alone, beside the live data")
        proof = await verify_replay(platform.settings, platform.dataset(dataset), postgres, objects)
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
    reason: Why = "asked for",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Have the next generation built now.

    It is built whatever the gate said of the same batches before. Wait for it: drp batches wait --all
    """

    async def run() -> None:
        from libs.operations.actions import acting
        from libs.operations.warehouse import request_rebuild

        async with operator() as platform:
            chosen = platform.dataset(dataset).name
            postgres = await platform.postgres()
            async with acting(postgres, dry_run=dry_run) as connection:
                number = await request_rebuild(connection, chosen, full=full, actor=actor(), reason=reason)
        if as_json:
            asked = {"request": number, "dataset": chosen, "full": full}
            write_json(asked | ({"dry_run": True} if dry_run else {}))
        ask = "Would ask" if dry_run else "Asked"
        say(f"{ask} for a {'full' if full else 'new'} build of {chosen}. See it: drp warehouse ls")

    asyncio.run(run())
