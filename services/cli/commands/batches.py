"""drp batches: what happened to each batch, and what an operator may do with it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from libs.operations import reading
from services.cli import completing
from services.cli.asking import DryRun, Why, Yes, actor, confirmed
from services.cli.output import PROBLEMS, Json, heading, number, say, show_record, show_rows, write_json
from services.cli.settings import Operator, operator

if TYPE_CHECKING:
    from libs.operations.settled import Unsettled

app = typer.Typer(
    help="List batches, close, hold, release and await them.", no_args_is_help=True, rich_markup_mode=None
)

_A_BATCH: Final = "A batch id, the start of one, or `last`."
Batch = Annotated[str, typer.Argument(metavar="BATCH", autocompletion=completing.batches, help=_A_BATCH)]

_COLUMNS: Final = (
    "id",
    "dataset",
    "status",
    "received",
    "accepted",
    "duplicate",
    "quarantined",
    "dead_lettered",
    "generation",
    "closed_at",
)
_PARTS: Final = {
    "generations": (
        "number",
        "state",
        "kind",
        "verdict",
        "staged",
        "rejected",
        "superseded",
        "built_at",
        "published_at",
    ),
    "broken_rules": ("rule", "status", "expectation", "observed", "unexpected", "evaluated"),
    "objects": ("key", "kind", "records", "bytes"),
    "audit": (
        "flow_name",
        "flow_run_id",
        "status",
        "started_at",
        "duration_seconds",
        "records_processed",
        "error_message",
    ),
    "actions": ("at", "actor", "action", "reason"),
}


@app.command("ls")
def ls(
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=completing.datasets, help="Only this dataset."),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS",
            autocompletion=completing.statuses,
            help=f"One of {', '.join(reading.STATUSES)}.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """List batches, newest first."""
    if status is not None and status not in reading.STATUSES:
        raise typer.BadParameter(f"not one of {', '.join(reading.STATUSES)}", param_hint="--status")

    async def run() -> None:
        async with operator() as platform:
            rows = await reading.batches(
                await platform.postgres(), dataset=platform.only(dataset), status=status, limit=limit
            )
        selected = dataset is not None or status is not None
        empty = "No such batch." if selected else "No batch yet. Publish one: drp publish --file orders.csv"
        show_rows(rows, as_json=as_json, columns=_COLUMNS, empty=empty)

    asyncio.run(run())


@app.command("show")
def show(batch: Batch, as_json: Json = False) -> None:
    """Show all about a batch, and what to do.

    Its counts, generations, broken rules, archive and audit rows.
    """

    async def run() -> None:
        async with operator() as platform:
            postgres = await platform.postgres()
            record = await reading.batch(postgres, await reading.find_batch_id(postgres, batch))
        if as_json:
            write_json(record)
            return
        nested = {name: record.pop(name) for name in _PARTS}
        show_record(record, as_json=False)
        for name, columns in _PARTS.items():
            if nested[name]:
                heading(name.replace("_", " "))
                show_rows(nested[name], as_json=False, columns=columns, empty="")
        say(f"\n{_advice(record)}")

    asyncio.run(run())


def _advice(record: reading.Record) -> str:
    batch_id, generation = record["id"], record["last_generation"]
    match record["status"]:
        case "blocked":
            return (
                f"Blocked by the gate. See the rows: drp quality show {generation}\n"
                f"Leave it out: drp batches hold {batch_id} --reason …   or publish corrections as later events."
            )
        case "held":
            return f"Held. Put it back: drp batches release {batch_id} --reason …"
        case "published":
            return f"Its trace: drp trace {batch_id}"
        case "empty":
            return f"No row was accepted. See why: drp quarantine ls --batch {batch_id}"
        case "open":
            return f"Still open. Have it closed: drp batches close {batch_id}"
    return f"On its way. Why it is there: drp why {batch_id}   Wait for it: drp batches wait {batch_id}"


@app.command("close")
def close(
    batch: Annotated[
        str | None, typer.Argument(metavar="BATCH", autocompletion=completing.batches, help=_A_BATCH)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every open batch.")] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=completing.datasets, help="With --all: only this dataset's."
        ),
    ] = None,
    reason: Why = "asked for",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Have an open batch closed now, before its size or age does it.

    An ingestor does it within a second. A batch that is closed already stays as it is.
    """
    if (batch is None) != everything or (batch is not None and dataset is not None):
        raise typer.BadParameter("name a batch, or say --all")

    async def run() -> None:
        from libs.operations.actions import acting
        from libs.operations.batches import request_close

        async with operator() as platform:
            postgres = await platform.postgres()
            batch_id = None if batch is None else await reading.find_batch_id(postgres, batch)
            only = platform.only(dataset)
            async with acting(postgres, dry_run=dry_run) as connection:
                asked = await request_close(connection, batch_id, dataset=only, reason=reason, actor=actor())
            if not dry_run:
                await reading.wait_until_closed(postgres, asked)
        if as_json:
            write_json({"closed": asked} | ({"dry_run": True} if dry_run else {}))
        else:
            _tell_closed(asked, batch_id, dry_run=dry_run)

    asyncio.run(run())


def _tell_closed(asked: list[uuid.UUID], batch_id: uuid.UUID | None, *, dry_run: bool) -> None:
    if asked:
        say(f"{'Would close' if dry_run else 'Closed'} {', '.join(map(str, asked))}.")
    else:
        say("No batch is open." if batch_id is None else f"Batch {batch_id} is closed already.")


@app.command("hold")
def hold_batch(
    batch: Batch,
    reason: Why,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Leave a batch out of the warehouse.

    The batches after it publish. One that readers see leaves their sight with the next generation: that asks
    first.
    """

    async def run() -> bool:
        from libs.operations.actions import acting
        from libs.operations.batches import hold

        async with operator() as platform:
            batch_id, record = await _found(platform, batch)
            seen = record["generation"] is not None and record["held_at"] is None
            question = f"Readers see batch {batch_id}. Take it out of their sight?"
            if seen and not dry_run and not await confirmed(question, yes=yes):
                return False
            postgres = await platform.postgres()
            async with acting(postgres, dry_run=dry_run) as connection:
                changed = await hold(connection, batch_id, reason=reason, actor=actor())
            after = await reading.batch(postgres, batch_id)
        is_ = "would be" if dry_run else "is"
        done = f"{is_} held: the next generation leaves it out" if changed else "was held already"
        undo = f" Put it back: drp batches release {batch_id} --reason …" if changed and not dry_run else ""
        _tell(f"Batch {batch_id} {done}.{undo}", after, dry_run=dry_run, as_json=as_json)
        return True

    raise typer.Exit(0 if asyncio.run(run()) else 1)


@app.command("release")
def release_batch(batch: Batch, reason: Why, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Put a held batch back.

    The next generation applies it, and the gate judges that.
    """

    async def run() -> None:
        from libs.operations.actions import acting
        from libs.operations.batches import release

        async with operator() as platform:
            batch_id, _ = await _found(platform, batch)
            postgres = await platform.postgres()
            async with acting(postgres, dry_run=dry_run) as connection:
                changed = await release(connection, batch_id, reason=reason, actor=actor())
            after = await reading.batch(postgres, batch_id)
        is_ = "would be" if dry_run else "is"
        done = f"{is_} released: the next generation applies it" if changed else "was not held"
        _tell(f"Batch {batch_id} {done}.", after, dry_run=dry_run, as_json=as_json)

    asyncio.run(run())


async def _found(platform: Operator, batch: str) -> tuple[uuid.UUID, reading.Record]:
    postgres = await platform.postgres()
    batch_id = await reading.find_batch_id(postgres, batch)
    return batch_id, await reading.batch(postgres, batch_id)


def _tell(message: str, record: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    say(message)
    if as_json:
        write_json(record | ({"dry_run": True} if dry_run else {}))


@app.command("wait")
def wait(
    batch: Annotated[
        str | None, typer.Argument(metavar="BATCH", autocompletion=completing.batches, help=_A_BATCH)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Until nothing is on its way any more.")] = False,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Wait so long at most.")] = 120,
    as_json: Json = False,
) -> None:
    """Wait until a batch, or everything, is published and archived.

    Exit 3 if the gate blocked it. Exit 5 if the time was up.
    """
    if (batch is None) != everything:
        raise typer.BadParameter("name a batch, or say --all")
    waiting = _wait_for_all(timeout, as_json) if batch is None else _wait_for_one(batch, timeout, as_json)
    raise typer.Exit(PROBLEMS if asyncio.run(waiting) else 0)


async def _wait_for_one(batch: str, timeout: float, as_json: bool) -> bool:  # noqa: ASYNC109 - of many looks
    """Whether it was blocked."""
    from libs.operations.settled import wait_for_link

    async with operator() as platform:
        postgres = await platform.postgres()
        batch_id = await reading.find_batch_id(postgres, batch)
        status = await reading.wait_for_batch(
            postgres, batch_id, timeout=timeout, archive=platform.settings.archive != "off"
        )
        if (warehouses := platform.warehouses) is not None:
            await wait_for_link(postgres, warehouses)
    if as_json:
        write_json({"batch": batch_id, "status": status})
    else:
        say(f"Batch {batch_id} is {status}.")
    if status == "blocked":
        say(f"See why: drp batches show {batch_id}")
    return status == "blocked"


async def _wait_for_all(timeout: float, as_json: bool) -> bool:  # noqa: ASYNC109 - of many looks
    """Whether a batch is blocked."""
    from libs.operations.settled import wait_until_settled

    async with operator() as platform:
        left = await wait_until_settled(
            await platform.postgres(),
            await platform.bus(),
            platform.datasets,
            timeout=timeout,
            archive=platform.settings.archive != "off",
            warehouses=platform.warehouses,
            on_progress=_progress(),
        )
    if as_json:
        write_json({"blocked": left.blocked})
    if left.blocked:
        batches = number(left.blocked, "batch", "batches")
        say(f"The gate blocks {batches}. See: drp batches ls --status blocked")
    return left.blocked > 0


def _progress() -> Callable[[Unsettled], None]:
    """Say what is left whenever that changes."""
    last = ""

    def tell(now: Unsettled) -> None:
        nonlocal last
        if str(now) != last:
            last = str(now)
            say(last)

    return tell
