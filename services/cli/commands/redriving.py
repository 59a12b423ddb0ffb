"""drp quarantine redrive, discard, reopen: what becomes of quarantined events is decided."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from libs.operations import reading
from libs.pipeline.refusals import REASONS
from services.cli import completing
from services.cli.asking import DryRun, Yes, actor, confirmed
from services.cli.output import PROBLEMS, Json, builtins, counted, number, say, show_rows, write_json
from services.cli.settings import Operator, operator

if TYPE_CHECKING:
    from libs.operations.quarantine import Selection
    from libs.operations.redriving import Redrive

__all__ = [
    "Because",
    "Code",
    "Id",
    "InBatch",
    "OfDataset",
    "check_code",
    "redriven",
    "register",
    "tell_redrive",
]

Id = Annotated[
    int,
    typer.Argument(
        metavar="ID", autocompletion=completing.quarantined, help="As `drp quarantine ls` shows it."
    ),
]
Ids = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="[ID]...", autocompletion=completing.quarantined, help="As `drp quarantine ls` shows them."
    ),
]
Code = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="CODE", autocompletion=completing.reasons, help="Only this reason code."
    ),
]
InBatch = Annotated[
    str | None,
    typer.Option("--batch", metavar="BATCH", autocompletion=completing.batches, help="Only this batch."),
]
OfDataset = Annotated[
    str | None,
    typer.Option("--dataset", metavar="NAME", autocompletion=completing.datasets, help="Only this dataset."),
]
Everything = Annotated[bool, typer.Option("--all", help="Every open one.")]
Because = Annotated[str, typer.Option("--because", metavar="TEXT", help="Why. It is kept.")]


_PLANNED: Final = ("id", "reason", "event_id", "fixed", "outcome", "detail")
_SHOWN_STAYING: Final = 20


def register(app: typer.Typer) -> None:
    app.command("redrive")(redrive_events)
    app.command("discard")(discard_events)
    app.command("reopen")(reopen_events)


def redrive_events(
    events: Ids = None,
    reason: Code = None,
    batch: InBatch = None,
    dataset: OfDataset = None,
    everything: Everything = False,
    because: Because = "asked for",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Publish quarantined events again, as they were fixed.

    One without a fix goes as it came, if the contract takes it by now. What would be refused, or be in conflict,
    is told and stays. Redriven twice it adds nothing. Exit 3 if one stays.
    """
    _check_selection(events, reason, batch, dataset, everything=everything)

    async def run() -> int:
        async with operator() as platform:
            selection = await _selection(platform, events, reason, batch, dataset)
            done = await redriven(platform, selection, because, dry_run=True)
            if not dry_run:
                if not as_json:
                    _tell_staying(done)
                again = f"Publish {number(done.published, 'event', 'events')} again?"
                if done.published and not await confirmed(again, yes=yes):
                    return 1
                if done.published:
                    done = await redriven(platform, selection, because, dry_run=False)
        if as_json:
            write_json(builtins(done))
        elif dry_run:
            show_rows(builtins(done.events), as_json=False, columns=_PLANNED, empty="Nothing is open.")
            if done.more:
                say(f"and {done.more:,} more.")
        tell_redrive(done)
        return PROBLEMS if done.stay else 0

    raise typer.Exit(asyncio.run(run()))


def discard_events(
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Why. It is kept.")],
    events: Ids = None,
    reason: Code = None,
    batch: InBatch = None,
    dataset: OfDataset = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put quarantined events away.

    Their originals stay, and `drp quarantine reopen` takes them up again. More than those that are named are put
    away only once you say so.
    """
    _check_selection(events, reason, batch, dataset, everything=everything)

    async def run() -> int:
        from libs.operations.actions import acting
        from libs.operations.quarantine import discard

        async with operator() as platform:
            postgres = await platform.postgres()
            selection = await _selection(platform, events, reason, batch, dataset)

            async def put_away(*, plan: bool) -> list[int]:
                async with acting(postgres, dry_run=plan) as connection:
                    return await discard(connection, selection, because=because, actor=actor())

            done = await put_away(plan=True)
            if not dry_run:
                question = f"Discard {number(len(done), 'event', 'events')}?"
                if not events and done and not await confirmed(question, yes=yes):
                    return 1
                done = await put_away(plan=False)
        if as_json:
            write_json({"dry_run": dry_run, "discarded": done})
        said = f"{'Would discard' if dry_run else 'Discarded'} {number(len(done), 'event', 'events')}."
        say(said if dry_run or not done else f"{said} Take up again: drp quarantine reopen {done[0]}")
        _tell_settled(events, done, "open")
        return 0

    raise typer.Exit(asyncio.run(run()))


def reopen_events(
    events: Annotated[list[int], typer.Argument(metavar="ID...", help="Discarded or redriven ones.")],
    because: Because = "asked for",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take discarded or redriven events up again.

    What was redriven stays published: redriven once more, it will be a duplicate.
    """

    async def run() -> None:
        from libs.operations.actions import acting
        from libs.operations.quarantine import reopen

        async with operator() as platform, acting(await platform.postgres(), dry_run=dry_run) as connection:
            done = await reopen(connection, events, because=because, actor=actor())
        if as_json:
            write_json({"dry_run": dry_run, "reopened": done})
        say(f"{'Would reopen' if dry_run else 'Reopened'} {number(len(done), 'event', 'events')}.")
        _tell_settled(events, done, "settled")

    asyncio.run(run())


def _tell_settled(events: list[int] | None, done: list[int], wanted: str) -> None:
    if others := sorted(set(events or ()) - set(done)):
        say(f"Not {wanted}, and left as it was: {', '.join(map(str, others))}")


async def redriven(platform: Operator, selection: Selection, because: str, *, dry_run: bool) -> Redrive:
    from libs.operations.redriving import redrive

    with platform.traced(), counted("events") as on_progress:
        return await redrive(
            await platform.postgres(),
            await platform.bus(),
            platform.datasets,
            selection,
            because=because,
            actor=actor(),
            dry_run=dry_run,
            on_progress=on_progress,
        )


def _tell_staying(done: Redrive) -> None:
    staying = [event for event in done.events if not event.goes]
    for event in staying[:_SHOWN_STAYING]:
        say(f"event {event.id} stays, {event.outcome}: {event.detail}")
    if (more := sum(done.outcomes.values()) - done.published - _SHOWN_STAYING) > 0:
        say(f"and {more:,} more. See more of them: --dry-run")


def tell_redrive(done: Redrive) -> None:
    did = "Would publish" if done.dry_run else "Published"
    stays = f"; {number(done.stay, 'stays', 'stay')}, for nothing would come of it" if done.stay else ""
    say(f"{did} {number(done.published, 'event', 'events')} again{stays}.")
    if done.published and not done.dry_run:
        say("Wait until readers see them: drp batches wait --all")
    if done.outcomes.get("conflict"):
        say("A conflict can go as a correction under another identity: drp quarantine fix ID --new-id")


async def _selection(
    platform: Operator, events: list[int] | None, reason: str | None, batch: str | None, dataset: str | None
) -> Selection:
    from libs.operations.quarantine import Selection

    return Selection(
        ids=events or None,
        reason=reason,
        batch_id=await reading.find_batch_id(await platform.postgres(), batch) if batch else None,
        dataset=platform.only(dataset),
    )


def _check_selection(
    events: list[int] | None, reason: str | None, batch: str | None, dataset: str | None, *, everything: bool
) -> None:
    check_code(reason)
    by_what = bool(reason or batch or dataset)
    if bool(events) + by_what + everything != 1:
        raise typer.BadParameter("say which: IDs, or --reason CODE, --batch and --dataset, or --all")


def check_code(reason: str | None) -> None:
    """Elsewhere --reason says why; here it selects."""
    if reason is not None and reason not in REASONS:
        raise typer.BadParameter(
            f"no reason code; known are {', '.join(REASONS)}. (Why you do it: --because)",
            param_hint="--reason",
        )
