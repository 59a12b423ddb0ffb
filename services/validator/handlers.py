"""The validator: every candidate gets a verdict, and only from here."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from libs.adapters import metrics
from libs.adapters.bus import Entry
from libs.adapters.telemetry import Span, span
from libs.adapters.warehouse import Warehouse
from libs.contracts.events import WarehouseBuilt
from libs.datasets import Dataset
from libs.errors import DrpError, Permanent, Transient
from libs.pipeline.outbox import read_event
from services.validator.domain import Candidate, Facts, RuleResult, Status, Verdict, file_result, message_of
from services.validator.examine import could_not_judge, examine
from services.validator.judge import Judge
from services.validator.store import VerdictStore

__all__ = ["Validator"]

log = logging.getLogger("drp.validator")

_PATIENCE: Final = 5
"""Times that a candidate's file may be unreadable before the verdict is `error`."""


class Validator:
    """Judges candidates, one at a time, on a thread of its own: Great Expectations keeps a core busy."""

    def __init__(
        self,
        store: VerdictStore,
        datasets: Mapping[str, Dataset],
        warehouse: Path,
        *,
        judge: Judge | None = None,
        on_verdict: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._datasets = datasets
        self._warehouse = warehouse
        self._judge = judge or Judge()
        self._on_verdict = on_verdict
        self.warming: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._one_at_a_time = asyncio.Lock()
        self._unreadable: Counter[int] = Counter()

    async def warm(self) -> None:
        """Import Great Expectations while nobody waits for it."""
        began = time.monotonic()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._judge.warm)
        log.info("Great Expectations is warm (%.1f s)", time.monotonic() - began)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def hear(self, entries: Sequence[Entry]) -> None:
        """Judge the candidates that were announced; what Postgres says of them decides.

        Raises:
            Permanent: an entry is no pipeline event.
        """
        heard: dict[int, uuid.UUID] = {}
        others: list[uuid.UUID] = []
        for entry in entries:
            event_id, generation = _read(entry)
            if generation is None:
                others.append(event_id)
            else:
                heard[generation] = event_id
        if heard:
            await self.judge_waiting(heard)
        await self._store.remember([*heard.values(), *others])

    async def bury(self, entry: Entry, why: str) -> None:
        """Tell of a candidate that could not get its verdict; of an entry that tells of none, audit tells."""
        try:
            _, generation = _read(entry)
        except Permanent as error:
            log.error("%s; left to audit", error)
            return
        log.error("generation %s could not be judged: %s", generation, why)
        if generation is not None:
            await self._store.announce_failure(generation, why, at=datetime.now(UTC))
            self._on_verdict()

    async def judge_waiting(self, heard: Mapping[int, uuid.UUID] | None = None) -> list[Verdict]:
        """Give every candidate without a verdict one, oldest first; one that can't get it stops no other.

        One that another validator is at is left to it; should that die, it is found again.

        Args:
            heard: by generation, the event that told of it.

        Raises:
            Transient, Permanent: of the first candidate that could not get its verdict.
        """
        verdicts: list[Verdict] = []
        troubles: list[DrpError] = []
        async with self._one_at_a_time:
            for candidate in await self._store.candidates():
                try:
                    async with self._store.turn(candidate) as ours:
                        if not ours:
                            continue
                        event = (heard or {}).get(candidate.generation)
                        verdict = await self._judge_candidate(candidate, event)
                except DrpError as error:
                    troubles.append(error)
                    continue
                verdicts += [verdict] if verdict is not None else []
        if troubles:
            raise troubles[0]
        return verdicts

    async def _judge_candidate(self, candidate: Candidate, heard: uuid.UUID | None) -> Verdict | None:
        began = datetime.now(UTC)
        attributes = {"drp.dataset": candidate.dataset, "drp.generation": candidate.generation}
        with span("validate", parent=candidate.traceparent, attributes=attributes, start_time=began) as step:
            results, rows = await self._results(candidate)
            ended = datetime.now(UTC)
            verdict = await self._store.settle(
                candidate,
                results,
                rows=rows,
                began=began,
                ended=ended,
                traceparent=step.traceparent,
                heard=heard,
            )
            self._unreadable.pop(candidate.generation, None)
            if verdict is None:
                step.set({"drp.verdict": "none: the candidate no longer waits"})
                return None
            _tell(candidate, verdict, results, step)
        self._on_verdict()
        metrics.GATE_SECONDS.labels(candidate.dataset).observe((ended - began).total_seconds())
        return verdict

    async def _results(self, candidate: Candidate) -> tuple[list[RuleResult], int]:
        dataset = self._datasets.get(candidate.dataset)
        if dataset is None:
            return [
                file_result(f"this validator has no contract of {candidate.dataset} (DRP_DATASETS_DIR)")
            ], 0
        facts = await self._store.facts(candidate, dataset)
        try:
            return await self._examine(candidate, dataset, facts), facts.rows
        except Transient as error:
            self._unreadable[candidate.generation] += 1
            if self._unreadable[candidate.generation] < _PATIENCE:
                raise
            return could_not_judge(dataset, f"{error} ({_PATIENCE} times)"), facts.rows

    async def _examine(self, candidate: Candidate, dataset: Dataset, facts: Facts) -> list[RuleResult]:
        path = Warehouse(self._warehouse, dataset.name).path_of(candidate.file)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, examine, path, candidate, dataset, facts, self._judge
        )


def _read(entry: Entry) -> tuple[uuid.UUID, int | None]:
    """The event's id, and the generation if it tells of a candidate."""
    envelope, event = read_event(entry)
    return envelope.id, event.generation if isinstance(event, WarehouseBuilt) else None


def _tell(candidate: Candidate, verdict: Verdict, results: Sequence[RuleResult], step: Span) -> None:
    counts = Counter(result.status for result in results)
    step.set(
        {
            "drp.verdict": str(verdict),
            "drp.rules": len(results),
            **{f"drp.rules.{status.replace(' ', '_')}": counts[status] for status in Status},
        }
    )
    metrics.GATE_VERDICTS.labels(candidate.dataset, verdict).inc()
    for result in results:
        if result.status is Status.FAIL:
            metrics.RULES_FAILED.labels(candidate.dataset, result.rule).inc()
    if verdict is Verdict.PASS:
        log.info("generation %d of %s passed %d rules", candidate.generation, candidate.dataset, len(results))
        return
    message = message_of(candidate, verdict, results)
    step.fail(message)
    log.warning("%s", message)
