"""Building one candidate, on a thread, for as long as its lease is ours."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from libs.adapters import metrics
from libs.adapters.telemetry import Span, span
from libs.adapters.warehouse import Warehouse
from libs.contracts.events import StepFailed
from libs.datasets import Dataset
from libs.errors import DrpError, Permanent, Transient
from libs.pipeline.build import Built, Recipe, build_generation, landed_select
from libs.pipeline.plan import Kind, Plan
from services.transformer.domain import links_of
from services.transformer.store import Begun, TransformerStore

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Builder", "ReadRaw"]

log = logging.getLogger("drp.transformer")

ReadRaw = Callable[[str], AbstractContextManager["Iterable[pa.RecordBatch]"]]
"""Runs a query on Postgres and gives its rows in pieces; blocks."""

_BATCHES_BY_NAME: Final = 500


class Builder:
    """Builds candidates of one dataset.

    Args:
        read_raw: how RAW is read.
        memory_limit: of DuckDB, e.g. `2GB`.
        lease: seconds; a sign of life is given four times as often.
        stopping: whether the process is about to end.
    """

    def __init__(
        self,
        dataset: Dataset,
        warehouse: Warehouse,
        store: TransformerStore,
        *,
        read_raw: ReadRaw,
        memory_limit: str,
        lease: float,
        stopping: Callable[[], bool],
    ) -> None:
        self._dataset = dataset
        self._warehouse = warehouse
        self._store = store
        self._read_raw = read_raw
        self._memory_limit = memory_limit
        self._lease = lease
        self._stopping = stopping

    async def build(self, plan: Plan, begun: Begun, *, attempt: int, clone_of: str | None) -> bool:
        """Build the candidate and announce it, or give it up; whether it now waits for its verdict.

        A failure is recorded, not raised: the plan is tried again later.

        Raises:
            Transient, Permanent: Postgres could not be told.
        """
        parent, links = links_of(plan.prompts)
        attributes = {
            "drp.dataset": self._dataset.name,
            "drp.generation": begun.number,
            "drp.kind": plan.kind.value,
            "drp.parent": plan.parent,
            "drp.attempt": attempt,
            "drp.batches": len(plan.batches),
        }
        with span(
            "transform", parent=parent, root=parent is None, links=links, attributes=attributes
        ) as step:
            try:
                built = await self._keeping_the_lease(plan, begun, clone_of)
            except DrpError as error:
                await self._give_up(plan, begun, error, attempt=attempt, step=step)
                return False
            return await self._finish(plan, begun, built, step)

    async def _finish(self, plan: Plan, begun: Begun, built: Built, step: Span) -> bool:
        if not await self._store.finish(begun, plan, built, traceparent=step.traceparent):
            step.fail("its lease was lost")
            log.warning("generation %d lost its lease and counts for nothing", begun.number)
            await asyncio.to_thread(self._warehouse.remove, begun.file)
            return False
        step.set(
            {
                "drp.rows": built.added_rows,
                "drp.staged": built.staged,
                "drp.rejected": built.rejected,
                "drp.superseded": built.superseded,
                "drp.bytes": built.bytes,
            }
        )
        log.info(
            "generation %d of %s is built (%s, %d batches, %d rows): %d staged, %d rejected, %d superseded",
            begun.number,
            self._dataset.name,
            plan.kind,
            len(plan.batches),
            built.added_rows,
            built.staged,
            built.rejected,
            built.superseded,
        )
        return True

    async def _keeping_the_lease(self, plan: Plan, begun: Begun, clone_of: str | None) -> Built:
        lost = threading.Event()
        beating = asyncio.create_task(self._beat(begun.number, lost), name="lease")
        try:
            return await asyncio.to_thread(self._build, plan, begun, clone_of, lost)
        finally:
            # If we are cancelled the thread goes on: it then finds that it lost, and clears up.
            lost.set()
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    async def _beat(self, number: int, lost: threading.Event) -> None:
        while not lost.is_set():
            await asyncio.sleep(self._lease / 4)
            try:
                if not await self._store.keep_lease(number):
                    lost.set()
            except Transient as error:
                log.warning("no sign of life could be given for generation %d: %s", number, error)

    def _build(self, plan: Plan, begun: Begun, clone_of: str | None, lost: threading.Event) -> Built:
        recipe = Recipe(
            dataset=self._dataset,
            generation=begun.number,
            parent=plan.parent,
            kind=plan.kind.value,
            batches=[batch.id for batch in plan.batches],
        )
        with self._read_raw(landed_select(self._dataset, self._condition(plan, begun))) as rows:
            return build_generation(
                self._warehouse,
                recipe,
                rows,
                file=begun.file,
                clone_of=clone_of,
                memory_limit=self._memory_limit,
                stopped=lambda: lost.is_set() or self._stopping(),
                timed=lambda name, seconds: metrics.GENERATION_SECONDS.labels(
                    self._dataset.name, name
                ).observe(seconds),
            )

    def _condition(self, plan: Plan, begun: Begun) -> str:
        """Which rows of RAW belong to the plan.

        Values stand in the text, for with parameters the driver gives up COPY and hands over all rows as one
        piece; they are numbers and ids that we made. A few batches are named, so that the index is used.
        """
        if plan.kind is Kind.INCREMENTAL and len(plan.batches) <= _BATCHES_BY_NAME:
            return f"batch_id = ANY('{{{','.join(batch.id.hex for batch in plan.batches)}}}'::uuid[])"
        return (
            f"batch_id IN (SELECT batch_id FROM ops.generation_batches WHERE generation = {begun.number:d})"
        )

    async def _give_up(self, plan: Plan, begun: Begun, error: DrpError, *, attempt: int, step: Span) -> None:
        step.fail(str(error))
        stopped = self._stopping() and isinstance(error, Transient)
        failed = None
        if isinstance(error, Permanent):
            now = datetime.now(UTC)
            failed = StepFailed(
                dataset=self._dataset.name,
                started_at=min(begun.started_at, now),
                ended_at=now,
                records=0,
                step="transform",
                batch_id=plan.prompts[0].id if plan.prompts else None,
                generation=begun.number,
                attempt=attempt,
                error=str(error),
                fix=error.fix,
            )
        await self._store.give_up(
            begun,
            plan,
            error=None if stopped else str(error),
            ask_again=isinstance(error, Transient),
            failed=failed,
            traceparent=step.traceparent,
        )
        if stopped:
            log.info("generation %d is left to the next start", begun.number)
            return
        metrics.GENERATIONS.labels(self._dataset.name, "failed").inc()
        log.error("generation %d of %s could not be built: %s", begun.number, self._dataset.name, error)
