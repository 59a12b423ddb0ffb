"""The audit hears every pipeline event, looks for batches that are late, and tells people about both."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from libs.adapters import metrics
from libs.adapters.bus import Entry
from libs.adapters.telemetry import span, trace_id_of
from libs.contracts.events import CloudEvent, PipelineEvent, decode_event
from libs.errors import Permanent, Transient
from services.audit.domain import (
    MAX_ATTEMPTS,
    Alert,
    Step,
    deadline_step,
    pause_before,
    step_of,
    unreadable_step,
)
from services.audit.store import AuditStore, PendingAlert

__all__ = ["NO_WEBHOOK", "AlertSink", "bury", "hear", "send_alerts", "shelve_alerts", "watch_deadline"]

log = logging.getLogger("drp.audit")

NO_WEBHOOK: Final = "no webhook is set (DRP_ALERT_WEBHOOK_URL)"
_AT_ONCE: Final = 5
"""Alerts taken at a time: with five seconds each, well within the minute that a claim lasts."""


class AlertSink(Protocol):
    """Where alerts go: the webhook, or a test's list."""

    async def send(self, alert: Alert) -> None:
        """Raises Transient (try again, after its `seconds` if it names some) or Permanent."""


async def hear(entries: Sequence[Entry], *, store: AuditStore) -> list[Step]:
    """Record one audit row per event, however often it arrives; the rows that are new.

    Raises:
        Permanent: an entry is no pipeline event.
    """
    began = datetime.now(UTC)
    heard = [_read(entry) for entry in entries]
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


async def watch_deadline(*, store: AuditStore, deadline: float) -> list[Step]:
    """One failed row and one alert per batch that isn't published `deadline` seconds after it closed."""
    late = await store.overdue(deadline)
    written = await store.record_found(
        [deadline_step(batch, deadline=deadline, trace_id=trace_id_of(batch.traceparent)) for batch in late]
    )
    parents = {str(batch.batch_id): batch.traceparent for batch in late}
    for step in written:
        _count(step)
        with span("deadline", parent=parents[step.run_id], attributes={"drp.run": step.run_id}) as mark:
            mark.fail(step.error or "")
    metrics.BATCHES_OVERDUE.clear()
    for dataset, count in (await store.overdue_counts(deadline)).items():
        metrics.BATCHES_OVERDUE.labels(dataset).set(count)
    return written


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


def _read(entry: Entry) -> tuple[CloudEvent, PipelineEvent]:
    try:
        return decode_event(entry.data)
    except (msgspec.MsgspecError, KeyError) as error:
        raise Permanent(
            f"entry {entry.id} of {entry.stream} is no pipeline event", why=type(error).__name__
        ) from error


def _count(step: Step) -> None:
    metrics.AUDIT_ROWS.labels(step.flow, step.status).inc()
    if step.error is not None:
        log.warning("%s %s failed: %s", step.flow, step.run_id, step.error)
