"""The audit hears every pipeline event, looks for batches that are late, and tells people about both."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import nan
from typing import Final, Protocol

from libs.adapters import metrics
from libs.adapters.bus import Entry, StreamOverview
from libs.adapters.telemetry import span, trace_id_of
from libs.errors import Permanent, Transient
from libs.pipeline.outbox import read_event
from services.audit.domain import (
    MAX_ATTEMPTS,
    Alert,
    Backlog,
    Step,
    backlog_step,
    deadline_step,
    pause_before,
    step_of,
    unarchived_step,
    unreadable_step,
)
from services.audit.domain.waiting import archive_run
from services.audit.store import AuditStore, PendingAlert

__all__ = [
    "NO_WEBHOOK",
    "AlertSink",
    "StreamWatch",
    "bury",
    "hear",
    "measure_streams",
    "send_alerts",
    "shelve_alerts",
    "watch_archive",
    "watch_deadline",
    "watch_streams",
]

log = logging.getLogger("drp.audit")

NO_WEBHOOK: Final = "no webhook is set (DRP_ALERT_WEBHOOK_URL)"
_AT_ONCE: Final = 5
"""Alerts taken at a time: with five seconds each, well within the minute that a claim lasts."""


class AlertSink(Protocol):
    """Where alerts go: the webhook, or a test's list."""

    async def send(self, alert: Alert) -> None:
        """Raises Transient (try again, after its `seconds` if it names some) or Permanent."""


class StreamWatch(Protocol):
    """What is needed of the bus to see how far its readers are."""

    async def overview(self, groups: Mapping[str, Sequence[str]]) -> list[StreamOverview]: ...


async def hear(entries: Sequence[Entry], *, store: AuditStore) -> list[Step]:
    """Record one audit row per event, however often it arrives; the rows that are new.

    Raises:
        Permanent: an entry is no pipeline event.
    """
    began = datetime.now(UTC)
    heard = [read_event(entry) for entry in entries]
    steps = [
        step_of(envelope, event, trace_id=trace_id_of(envelope.traceparent)) for envelope, event in heard
    ]
    written = await store.record(steps)
    parents = {envelope.id: envelope.traceparent for envelope, _ in heard}
    for step in written:
        _count(step)
        with span(
            "audit",
            parent=parents[step.event_id],
            start_time=began,
            attributes={"drp.flow": step.flow, "drp.run": step.run_id, "drp.status": step.status},
        ) as mark:
            if step.error is not None:
                mark.set({"drp.error": step.error[:500]})
    return written


async def bury(entry: Entry, why: str, *, store: AuditStore) -> None:
    """Record that an entry could not be recorded as what it claims to be."""
    step = unreadable_step(stream=entry.stream, entry_id=entry.id, why=why, at=datetime.now(UTC))
    for written in await store.record_found([step]):
        _count(written)


async def watch_deadline(*, store: AuditStore, deadline: float, max_age: float = 0.0) -> list[Step]:
    """One failed row and one alert per batch that isn't published `deadline` seconds after it closed.

    And one per batch that is open for so long: after max_age seconds any ingestor would have closed it.
    """
    late = [*await store.overdue(deadline), *await store.open_too_long(deadline + max_age)]
    written = await store.record_found(
        [deadline_step(batch, deadline=deadline, trace_id=trace_id_of(batch.traceparent)) for batch in late]
    )
    _tell(written, {str(batch.batch_id): batch.traceparent for batch in late})
    metrics.BATCHES_OVERDUE.clear()
    for dataset, count in (await store.overdue_counts(deadline, open_for=deadline + max_age)).items():
        metrics.BATCHES_OVERDUE.labels(dataset).set(count)
    return written


async def watch_archive(*, store: AuditStore, deadline: float) -> list[Step]:
    """One failed row and one alert per dataset with batches not archived `deadline` seconds after they closed.

    Not one a batch: a store that is away keeps all of them. Those that close later are told of later, as one.
    """
    late = await store.unarchived(deadline)
    steps = [
        unarchived_step(each, deadline=deadline, trace_id=trace_id_of(each.traceparent)) for each in late
    ]
    written = await store.record_found(steps)
    _tell(written, {archive_run(each.dataset): each.traceparent for each in late})
    return written


async def watch_streams(
    *,
    store: AuditStore,
    bus: StreamWatch,
    groups: Mapping[str, Sequence[str]],
    datasets: Mapping[str, str],
    deadline: float,
) -> list[Step]:
    """One failed row and one alert per dataset's stream and group with an entry unhandled for `deadline` seconds.

    Those that came before people were told are the trouble that they know of; later ones are told of again.

    Args:
        groups: every declared stream with its groups; the metrics are of all these.
        datasets: a dataset's name by its stream.

    Raises:
        Transient: Redis or Postgres is away.
    """
    seen = await bus.overview(groups)
    measure_streams(seen)
    waiting = [
        Backlog(
            dataset=datasets[each.stream],
            stream=each.stream,
            group=group.name,
            first=first,
            pending=group.pending,
            unread=group.lag,
        )
        for each in seen
        if each.stream in datasets
        for group in each.groups
        if (first := group.first_unhandled if group.exists else each.first_id) is not None
    ]
    late = await store.too_long_in_streams(waiting, deadline)
    written = await store.record_found([backlog_step(each, deadline=deadline) for each in late])
    _tell(written, {})
    return written


def measure_streams(seen: Sequence[StreamOverview]) -> None:
    """Set the streams' metrics; a lag that Redis can't tell is not a number."""
    for each in seen:
        metrics.STREAM_LENGTH.labels(each.stream).set(each.length)
        for group in each.groups:
            where = (each.stream, group.name)
            metrics.STREAM_PENDING.labels(*where).set(group.pending)
            metrics.STREAM_LAG.labels(*where).set(nan if group.lag is None else group.lag)


async def send_alerts(*, store: AuditStore, sink: AlertSink, rng: random.Random) -> int:
    """Send what is due, until nothing is; how many were tried."""
    tried = 0
    while taken := await store.claim_alerts(_AT_ONCE):
        for pending in taken:
            await _send(pending, store=store, sink=sink, rng=rng)
        tried += len(taken)
    return tried


async def shelve_alerts(*, store: AuditStore) -> int:
    """Without a webhook: alerts go to the log, and wait unsent for a day in case one is set."""
    texts = await store.shelve_alerts(why=NO_WEBHOOK)
    for text in texts:
        log.warning("alert not sent, %s: %s", NO_WEBHOOK, text)
        metrics.ALERTS.labels("unsent").inc()
    return len(texts)


async def _send(pending: PendingAlert, *, store: AuditStore, sink: AlertSink, rng: random.Random) -> None:
    try:
        await sink.send(pending.alert)
    except Transient as error:
        await _put_off(pending, error, store=store, rng=rng)
    except Permanent as error:
        await _give_up(pending, str(error), store=store)
    else:
        await store.mark_sent(pending.id)
        metrics.ALERTS.labels("sent").inc()


async def _put_off(pending: PendingAlert, error: Transient, *, store: AuditStore, rng: random.Random) -> None:
    if pending.attempts >= MAX_ATTEMPTS:
        await _give_up(pending, f"{error} (after {pending.attempts} attempts)", store=store)
        return
    asked = getattr(error, "seconds", None)
    pause = max(pause_before(pending.attempts, rng=rng), asked or 0.0)
    await store.mark_later(pending.id, why=str(error), seconds=pause)
    metrics.ALERTS.labels("retried").inc()
    log.info("alert %d waits %.1f s: %s", pending.id, pause, error)


async def _give_up(pending: PendingAlert, why: str, *, store: AuditStore) -> None:
    await store.mark_unsent(pending.id, why=why)
    metrics.ALERTS.labels("unsent").inc()
    log.error("alert %d (%s %s) stays unsent: %s", pending.id, pending.alert.flow, pending.alert.run_id, why)


def _tell(found: Sequence[Step], parents: Mapping[str, str | None]) -> None:
    """Of what the audit itself found: a span in the trace of the oldest batch it is about, if there is one."""
    for step in found:
        _count(step)
        with span("deadline", parent=parents.get(step.run_id), attributes={"drp.run": step.run_id}) as mark:
            mark.fail(step.error or "")


def _count(step: Step) -> None:
    metrics.AUDIT_ROWS.labels(step.flow, step.status).inc()
    if step.error is not None:
        log.warning("%s %s failed: %s", step.flow, step.run_id, step.error)
