"""The transformer: batches that readers lack become a candidate, a candidate that passed becomes what they see.

Events only say that there may be something to do; `tend` looks in Postgres what that is, so nothing is lost
when an event is late, repeated or missed.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from libs.adapters import metrics
from libs.adapters.bus import Entry
from libs.adapters.postgres import Postgres
from libs.adapters.telemetry import span
from libs.adapters.warehouse import Warehouse
from libs.contracts.events import (
    CloudEvent,
    PipelineEvent,
    QualityFailed,
    QualityPassed,
    WarehousePublished,
)
from libs.datasets import Dataset
from libs.pipeline.build import staging_is_stale
from libs.pipeline.outbox import read_event
from libs.pipeline.plan import Kind, Plan, make_plan, may_build
from services.transformer.builder import Builder
from services.transformer.domain import Candidate, Fate, Pointer, View, fate_of, why_abandon
from services.transformer.store import TransformerStore, remember_events

__all__ = ["Transformer", "bury", "hear"]

log = logging.getLogger("drp.transformer")

_STEPS: Final = 20


class Transformer:
    """Tends the warehouse of one dataset.

    Args:
        consumer: this replica's stable name.
        keep: generations kept beside the current one.
        archive: `on`, `off` or `required`, as the settings say.
        on_announced: called after a commit that put an event into the outbox.
    """

    def __init__(
        self,
        dataset: Dataset,
        warehouse: Warehouse,
        store: TransformerStore,
        builder: Builder,
        *,
        consumer: str,
        keep: int = 5,
        archive: str = "on",
        on_announced: Callable[[], None] = lambda: None,
    ) -> None:
        self.dataset = dataset
        self._warehouse = warehouse
        self._store = store
        self._builder = builder
        self._consumer = consumer
        self._keep = keep
        self._archive = archive
        self._on_announced = on_announced
        self._verdict_traces: dict[int, str] = {}
        self._stale: dict[tuple[str, str], bool] = {}
        self._pruned = False

    def expect(self, generation: int, traceparent: str | None) -> None:
        """A verdict was announced: what follows goes on in its trace."""
        if traceparent is not None:
            self._verdict_traces[generation] = traceparent

    async def tend(self) -> None:
        """Do whatever Postgres says is to be done: clear up, publish, build.

        Raises:
            Transient, Permanent: it could not go on; everything is tried again.
        """
        for number in await self._store.abandon_orphans(consumer=self._consumer):
            log.warning("generation %d was left by its builder", number)
            metrics.GENERATIONS.labels(self.dataset.name, "abandoned").inc()
            self._pruned = False
        for _ in range(_STEPS):
            view = await self._store.view()
            await self._follow(view.pointer)
            if not await self._step(view):
                break
        if not self._pruned:
            await self._prune()

    async def _step(self, view: View) -> bool:
        """One thing that is to be done; False if there is none."""
        if view.candidate is not None:
            return await self._settle(view.candidate, view.pointer)
        if view.pointer.pinned:
            return False
        return await self._build(view)

    async def _follow(self, pointer: Pointer) -> None:
        """Have the link lead to where the pointer is: not where it was seen, but where it is meanwhile."""
        current = self._warehouse.current()
        if pointer.file is None or (current is not None and current.name == pointer.file):
            return
        # Two replicas that move the link do so to the same file, for the pointer can't move between them.
        async with self._store.pointer_held() as held:
            if held.file is None or not self._warehouse.path_of(held.file).is_file():
                return
            moved = await asyncio.to_thread(self._warehouse.point_current_at, held.file)
        if moved:
            log.info("%s leads to %s", self._warehouse.current_link, held.file)
            metrics.GENERATION_CURRENT.labels(self.dataset.name).set(held.generation or 0)
            watermark = await self._store.watermark(held.generation or 0)
            if watermark is not None:
                metrics.WATERMARK.labels(self.dataset.name).set(watermark.timestamp())

    async def _settle(self, candidate: Candidate, pointer: Pointer) -> bool:
        there = self._warehouse.path_of(candidate.file).is_file()
        fate = fate_of(candidate, pointer, file_is_there=there, archive_required=self._archive == "required")
        if fate is Fate.ABANDON:
            why = why_abandon(candidate, pointer, file_is_there=there) or ""
            return await self._abandon(candidate, why)
        if fate is Fate.PUBLISH:
            return await self._publish(candidate, pointer)
        return False

    async def _abandon(self, candidate: Candidate, why: str) -> bool:
        if await self._store.abandon(candidate, why):
            log.warning("generation %d is given up: %s", candidate.number, why)
            metrics.GENERATIONS.labels(self.dataset.name, "abandoned").inc()
            self._pruned = False
        return True

    async def _publish(self, candidate: Candidate, pointer: Pointer) -> bool:
        began = datetime.now(UTC)
        parent = self._verdict_traces.pop(candidate.number, None) or candidate.traceparent
        attributes = {"drp.dataset": self.dataset.name, "drp.generation": candidate.number}
        with span("publish", parent=parent, attributes=attributes, start_time=began) as step:
            found = await asyncio.to_thread(self._warehouse.sha256_of, candidate.file)
            if found != candidate.sha256:
                step.fail("its file was changed")
                return await self._abandon(
                    candidate, f"its file {candidate.file} was changed after it was built"
                )
            published = await self._store.publish(
                candidate, pointer, began=began, traceparent=step.traceparent
            )
            if published is None:
                step.fail("something changed meanwhile")
                return True
            await self._follow((await self._store.view()).pointer)
            step.set({"drp.version": published.version, "drp.reason": published.reason})
        await self._tell(published)
        return True

    async def _tell(self, published: WarehousePublished) -> None:
        self._on_announced()
        log.info(
            "generation %d of %s is what readers see now (%d rows, %s)",
            published.generation,
            published.dataset,
            published.records,
            published.reason,
        )
        seconds = (published.ended_at - published.started_at).total_seconds()
        metrics.GENERATION_SECONDS.labels(self.dataset.name, "publish").observe(seconds)
        metrics.GENERATIONS.labels(self.dataset.name, "published").inc()
        metrics.GENERATION_CURRENT.labels(self.dataset.name).set(published.generation)
        watermark = await self._store.watermark(published.generation)
        if watermark is not None:
            metrics.WATERMARK.labels(self.dataset.name).set(watermark.timestamp())
        self._verdict_traces.clear()
        await self._prune()

    async def _build(self, view: View) -> bool:
        plan = await self._plan(view)
        if plan is None:
            return False
        attempt = may_build(plan, await self._store.tried(plan), now=view.now)
        if attempt is None:
            return False
        begun = await self._store.begin(plan, attempt=attempt)
        if begun is None:
            return False
        clone_of = view.pointer.file if plan.kind is Kind.INCREMENTAL else None
        built = await self._builder.build(plan, begun, attempt=attempt, clone_of=clone_of)
        self._on_announced()
        self._pruned = built and self._pruned
        return False

    async def _plan(self, view: View) -> Plan | None:
        file = view.pointer.file
        lost = file is not None and not self._warehouse.path_of(file).is_file()
        batches = view.batches

        def planned(*, stale: bool) -> Plan | None:
            return make_plan(
                batches,
                parent=view.pointer.generation,
                requests=view.requests,
                fingerprint=self.dataset.fingerprint,
                stale_staging=stale,
                lost=lost,
            )

        plan = planned(stale=False)
        if plan is None:
            return None
        stale = plan.kind is Kind.INCREMENTAL and file is not None and await self._is_stale(file)
        if plan.kind is Kind.INCREMENTAL and not stale:
            return plan
        batches = await self._store.every_batch()
        return planned(stale=stale)

    async def _is_stale(self, file: str) -> bool:
        """Looked up once a file, for a blocked plan is looked at every second."""
        key = (file, self.dataset.fingerprint)
        if key not in self._stale:
            self._stale = {
                key: await asyncio.to_thread(staging_is_stale, self._warehouse, file, self.dataset)
            }
        return self._stale[key]

    async def _prune(self) -> None:
        # Looked for before Postgres is asked: a file that comes in between is somebody's new candidate.
        there = await asyncio.to_thread(self._warehouse.files)
        living = await self._store.prune(keep=self._keep, spare_unarchived=self._archive != "off")
        gone = await asyncio.to_thread(self._warehouse.prune, living, among=there)
        if gone:
            log.info("removed %s", ", ".join(gone))
        self._pruned = True


async def hear(
    entries: Sequence[Entry],
    *,
    postgres: Postgres,
    transformers: dict[str, Transformer],
    nudge: Callable[[str], None],
) -> None:
    """Note the events and have the datasets that they speak of looked at now.

    Raises:
        Permanent: an entry is no pipeline event.
    """
    heard: dict[uuid.UUID, tuple[CloudEvent, PipelineEvent]] = {}
    for entry in entries:
        envelope, event = read_event(entry)
        heard[envelope.id] = (envelope, event)
    new = await remember_events(postgres, list(heard))
    for event_id, (envelope, event) in heard.items():
        transformer = transformers.get(event.dataset)
        if transformer is None:
            continue
        if isinstance(event, QualityPassed):
            transformer.expect(event.generation, envelope.traceparent)
        elif isinstance(event, QualityFailed) and event_id in new:
            metrics.GENERATIONS.labels(event.dataset, "blocked").inc()
        nudge(event.dataset)


async def bury(entry: Entry, why: str) -> None:
    """Let an unreadable entry go: what it tried to tell stands in Postgres, and audit records that it came."""
    log.error("entry %s of %s is left to audit: %s", entry.id, entry.stream, why)
