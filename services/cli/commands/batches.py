"""drp batches: what happened to each batch, and what an operator may do with it."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable
from typing import Annotated

import typer

from libs.operations import reading
from libs.operations.batches import hold, release
from libs.operations.settled import Unsettled, wait_until_settled
from services.cli.output import PROBLEMS, Json, say, show_record, show_rows, write_json
from services.cli.settings import operator

app = typer.Typer(help="Batches: list, show, hold, release, wait.", no_args_is_help=True)

Batch = Annotated[str, typer.Argument(help="A batch id, the start of one, or `last`.")]


@app.command("ls")
def ls(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="open, closed, building, built, passed, blocked, published, held or empty."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List batches, newest first."""

    async def run() -> None:
        async with operator() as platform:
            rows = await reading.batches(
                await platform.postgres(), dataset=dataset, status=status, limit=limit
            )
        columns = (
            "id",
            "dataset",
            "status",
            "received",
            "accepted",
            "duplicate",
            "quarantined",
            "generation",
            "closed_at",
        )
        show_rows(
            rows,
            as_json=as_json,
            columns=columns,
            empty="No batch yet. Publish one: drp publish --file orders.csv",
        )

    asyncio.run(run())


@app.command("show")
def show(batch: Batch, as_json: Json = False) -> None:
    """Everything about one batch: counts, generations, broken rules, archive, audit, and what to do."""

    async def run() -> None:
        async with operator() as platform:
            postgres = await platform.postgres()
            record = await reading.batch(postgres, await reading.find_batch_id(postgres, batch))
        if as_json:
            write_json(record)
            return
        nested = {name: record.pop(name) for name in ("generations", "objects", "audit", "broken_rules")}
        show_record(record, as_json=False)
        for name, columns in _PARTS.items():
            rows = nested[name]
            if isinstance(rows, list) and rows:
                say(f"\n{name.replace('_', ' ')}")
                show_rows(rows, as_json=False, columns=columns, empty="")
        say(f"\n{_advice(record)}")

    asyncio.run(run())


_PARTS = {
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
}


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
    return f"On its way. Wait for it: drp batches wait {batch_id}"


@app.command("hold")
def hold_batch(
    batch: Batch, reason: Annotated[str, typer.Option(help="Why; it is kept.")], as_json: Json = False
) -> None:
    """Leave a batch out of the warehouse; the batches after it publish."""
    asyncio.run(_change(batch, reason, as_json=as_json, held=True))


@app.command("release")
def release_batch(
    batch: Batch, reason: Annotated[str, typer.Option(help="Why; it is kept.")], as_json: Json = False
) -> None:
    """Put a held batch back."""
    asyncio.run(_change(batch, reason, as_json=as_json, held=False))


async def _change(batch: str, reason: str, *, as_json: bool, held: bool) -> None:
    async with operator() as platform:
        postgres = await platform.postgres()
        batch_id = await reading.find_batch_id(postgres, batch)
        async with postgres.transaction() as connection:
            await (hold if held else release)(connection, batch_id, reason=reason, actor=getpass.getuser())
        record = await reading.batch(postgres, batch_id)
    say(
        f"Batch {batch_id} is {'held; the next generation leaves it out' if held else 'back in the next generation'}."
    )
    if as_json:
        write_json(record)


@app.command("wait")
def wait(
    batch: Annotated[str | None, typer.Argument(help="A batch id; without one, --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Until nothing is on its way any more.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 120,
    as_json: Json = False,
) -> None:
    """Wait until a batch, or everything, is published and archived. Exit 3 if the gate blocked it."""
    if (batch is None) != everything:
        raise typer.BadParameter("name a batch, or say --all")

    async def run() -> int:
        async with operator() as platform:
            postgres = await platform.postgres()
            if batch is not None:
                batch_id = await reading.find_batch_id(postgres, batch)
                status = await reading.wait_for_batch(postgres, batch_id, timeout=timeout)
                write_json({"batch": batch_id, "status": status}) if as_json else say(
                    f"Batch {batch_id}: {status}"
                )
                return PROBLEMS if status == "blocked" else 0
            left = await wait_until_settled(
                postgres,
                await platform.bus(),
                platform.datasets,
                timeout=timeout,
                archive=platform.settings.archive != "off",
                on_progress=_progress(),
            )
        if as_json:
            write_json({"blocked": left.blocked})
        elif left.blocked:
            say(f"{left.blocked} batches are blocked by the gate. See: drp batches ls --status blocked")
        return PROBLEMS if left.blocked else 0

    raise typer.Exit(asyncio.run(run()))


def _progress() -> Callable[[Unsettled], None]:
    """Say what is left whenever that changes."""
    last = ""

    def tell(now: Unsettled) -> None:
        nonlocal last
        if str(now) != last:
            last = str(now)
            say(last)

    return tell
