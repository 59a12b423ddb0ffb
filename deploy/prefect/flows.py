"""Flows for those who keep Prefect: what the platform does is seen there as runs, states and retries.

A flow publishes, or has batches closed, and waits for what the platform makes of that. It does none of the work
itself: the platform does the same without it. Needs what `drp` needs: DRP_HOME, or DRP_REDIS_URL and
DRP_POSTGRES_URL. Results and logs are ids and counts, never a row.

    python deploy/prefect/flows.py --file orders.csv    both flows, once; or --url

Exit codes as drp's: 3 if the gate blocked a batch, 5 if it took too long or a server is away, 1 if retrying can't help.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import FailedRun
from prefect.runtime import flow_run
from prefect.states import Failed

from libs.adapters import telemetry
from libs.adapters.bus import Bus
from libs.datasets import Dataset
from libs.errors import Permanent, Transient
from libs.operations import reading
from libs.operations.batches import request_close
from libs.operations.landing import wait_until_landed
from libs.operations.publish import publish_file
from libs.operations.pull import Address, Pull
from libs.operations.settled import wait_for_link
from services.cli.settings import operator

Record = dict[str, Any]


async def is_transient(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Whether retrying may help: what is wrong with a file or a setting stays wrong."""
    return isinstance(await state.aresult(raise_on_failure=False), Transient)


RETRIED: Final[Record] = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 30],
    "retry_condition_fn": is_transient,
    # A repeat must look again. What it publishes again adds nothing: an event's id follows from its row.
    "cache_policy": NO_CACHE,
}


@dataclass(frozen=True)
class Producer:
    """Where a task publishes to; what the stream acknowledged; what the span says of the run."""

    bus: Bus
    dataset: Dataset
    entries: list[str]
    attributes: dict[str, str]


@asynccontextmanager
async def producing(dataset: str) -> AsyncIterator[Producer]:
    async with operator() as platform:
        chosen, bus = platform.dataset(dataset), await platform.bus()
        told = telemetry.setup("prefect", endpoint=platform.settings.otlp_endpoint, logs=False)
        try:
            yield Producer(bus, chosen, [], {"prefect.flow_run_id": str(flow_run.id)})
        finally:
            told.shutdown()


@task(name="publish", **RETRIED)
async def publish(dataset: str, file: str, mapping: dict[str, str], source: str | None) -> list[str]:
    """The ids of the stream's entries that hold the file's rows."""
    async with producing(dataset) as to:
        await publish_file(
            to.bus,
            to.dataset,
            Path(file),
            mapping=mapping,
            source=source,
            on_entries=to.entries.extend,
            attributes=to.attributes,
        )
    return to.entries


@task(name="pull", **RETRIED)
async def pull(
    dataset: str, address: Record, header_env: dict[str, str], mapping: dict[str, str], source: str | None
) -> list[str]:
    """The ids of the stream's entries that hold the answer's records."""
    headers = {name: _secret(variable) for name, variable in header_env.items()}
    async with producing(dataset) as to:
        await Pull(
            bus=to.bus,
            dataset=to.dataset,
            address=Address(**address, headers=headers),
            mapping=mapping,
            source=source,
            on_entries=to.entries.extend,
            attributes=to.attributes,
        ).once()
    return to.entries


def _secret(variable: str) -> str:
    if variable not in os.environ:
        raise Permanent(f"{variable} is not set", fix="set it where the flow runs")
    return os.environ[variable]


@task(name="await-landing", **RETRIED)
async def await_landing(dataset: str, entries: list[str], wait_seconds: float) -> Record:
    """The events by disposition, and the batches that took them."""
    async with operator() as platform:
        stream = platform.dataset(dataset).stream
        landed = await wait_until_landed(await platform.postgres(), stream, entries, timeout=wait_seconds)
    return {
        "accepted": landed.accepted,
        "duplicate": landed.duplicate,
        "quarantined": landed.quarantined,
        "dead_lettered": landed.dead_lettered,
        "batches": [str(batch) for batch in landed.batches],
    }


@task(name="close-batches", **RETRIED)
async def close_batches(dataset: str, batches: list[UUID] | None) -> list[UUID]:
    """Have these closed, or every open one; these, or every one that readers are to see and don't yet."""
    who = {"actor": f"prefect flow run {flow_run.id}", "reason": f"asked for by {flow_run.flow_name}"}
    named: list[UUID | None] = [None] if batches is None else [*batches]
    async with operator() as platform:
        postgres, name = await platform.postgres(), platform.dataset(dataset).name
        async with postgres.transaction() as connection:
            asked = [
                closing
                for batch in named
                for closing in await request_close(connection, batch, dataset=name, **who)
            ]
        await reading.wait_until_closed(postgres, asked)
        if batches is not None:
            return batches
        waiting = await reading.unpublished_batches(postgres, name)
    # Newest first: once its outcome is known, so is whether it corrected what was blocked before it.
    return list(dict.fromkeys([*asked, *waiting]))


@task(name="await-outcome", task_run_name="await-outcome-{batch}", **RETRIED)
async def await_outcome(batch: UUID, wait_seconds: float) -> Record:
    """What became of the batch: its status and generation, and the rules that stopped it."""
    async with operator() as platform:
        postgres = await platform.postgres()
        archive = platform.settings.archive != "off"
        status = await reading.wait_for_batch(postgres, batch, timeout=wait_seconds, archive=archive)
        if (warehouses := platform.warehouses) is not None:
            await wait_for_link(postgres, warehouses)
        record = await reading.batch(postgres, batch)
    return {
        "batch": str(batch),
        "status": status,
        "generation": record["last_generation"],
        "broken_rules": [rule["rule"] for rule in record["broken_rules"]],
    }


@flow(name="ingest-orders-to-raw")
async def ingest_orders_to_raw(
    file: str | None = None,
    url: str | None = None,
    records: str | None = "records",
    header_env: dict[str, str] | None = None,
    mapping: dict[str, str] | None = None,
    source: str | None = None,
    dataset: str = "orders",
    wait_seconds: float = 120,
) -> Record:
    """Publish a file, or pull a JSON API once, and wait until each event is in RAW, a duplicate, or in quarantine.

    Prefect keeps parameters: a secret belongs into a variable that header_env names.

    Args:
        file: CSV, JSON Lines or Parquet, gzip too.
        url: the API, instead of a file.
        records: where its answer has the array; null if it is one.
        header_env: variables with the values of headers, by the header's name.
        mapping: the source's column for a field of the contract.
        source: the events' source, a URN; made from the file's name or the address if left out.
        wait_seconds: for landing, each attempt.
    """
    if file is not None and url is None:
        entries = await publish(dataset, file, mapping or {}, source)
    elif url is not None and file is None:
        address = {"url": url, "records": records}
        entries = await pull(dataset, address, header_env or {}, mapping or {}, source)
    else:
        raise Permanent("what is to be ingested is not clear", fix="a file or a url")
    landed: Record = await await_landing(dataset, entries, wait_seconds)
    log = get_run_logger()
    log.info("%d accepted, %d duplicate", landed["accepted"], landed["duplicate"])
    if refused := landed["quarantined"] + landed["dead_lettered"]:
        log.warning("%d events were refused. See why: drp quarantine ls", refused)
    return landed


@flow(name="stage-and-validate-orders")
async def stage_and_validate_orders(
    batches: list[UUID] | None = None, dataset: str = "orders", wait_seconds: float = 120
) -> Record | State[Any]:
    """Have batches closed and wait until readers see them. Fails if the gate blocked one.

    Args:
        batches: which; all that are open, on their way or blocked if left out.
        wait_seconds: for each batch, each attempt.
    """
    chosen = await close_batches(dataset, batches)
    outcomes = [await await_outcome(batch, wait_seconds) for batch in chosen]
    if blocked := [outcome for outcome in outcomes if outcome["status"] == "blocked"]:
        return Failed(message="\n".join(map(_why_blocked, blocked)))
    return {outcome["batch"]: outcome["status"] for outcome in outcomes}


def _why_blocked(outcome: Record) -> str:
    batch, rules = outcome["batch"], ", ".join(outcome["broken_rules"])
    return (
        f"the gate blocked batch {batch}: {rules}. See the rows: drp quality show {outcome['generation']}. "
        f"Then publish corrections as later events, or leave it out: drp batches hold {batch} --reason …"
    )


async def _both(file: str | None, url: str | None, wait_seconds: float) -> None:
    landed = await ingest_orders_to_raw(file, url, wait_seconds=wait_seconds)
    batches = [UUID(batch) for batch in landed["batches"]]
    await stage_and_validate_orders(batches, wait_seconds=wait_seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both flows once. Exit codes as drp's."""
    parser = argparse.ArgumentParser(description="Publish, and see it through the gate, as Prefect runs.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--file", help="CSV, JSON Lines or Parquet, gzip too")
    what.add_argument("--url", help="a JSON API whose answer has the array `records`")
    waiting = "for landing, then for each batch, at each attempt (default: %(default)g)"
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help=waiting)
    given = parser.parse_args(arguments)
    try:
        asyncio.run(_both(given.file, given.url, given.timeout))
    # Prefect has told it
    except FailedRun:  # a state that the flow returned, not an error: the gate
        return 3
    except Transient:
        return 5
    except Permanent:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
