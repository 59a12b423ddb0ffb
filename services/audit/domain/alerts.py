"""What a person is told of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.audit.domain.steps import Step

__all__ = ["Alert", "alert_of", "webhook_body"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What a person is told. dedupe_key names the fact, so that it is told once."""

    dedupe_key: str
    event_type: str
    flow: str
    run_id: str
    message: str
    metadata: Mapping[str, object]


def alert_of(step: Step) -> Alert | None:
    """What to tell a person about a step: every failure, and dead letters; None when all is well."""
    message = step.error
    lost = step.metadata.get("dead_lettered")
    if message is None and isinstance(lost, int) and lost:
        message = (
            f"{lost:,} events of batch {step.run_id} could not be landed and were dead-lettered; their bytes "
            f"are kept. Try: drp quarantine ls --batch {step.run_id}"
        )
    if message is None:
        return None
    return Alert(
        dedupe_key=f"{step.event_type}:{step.event_id}",
        event_type=step.event_type,
        flow=step.flow,
        run_id=step.run_id,
        message=message,
        metadata=step.metadata,
    )


def webhook_body(alert: Alert) -> dict[str, object]:
    """What a webhook receives: our fields, and `text`, which Slack and Teams show."""
    return {
        "event_type": alert.event_type,
        "flow_name": alert.flow,
        "flow_run_id": alert.run_id,
        "error_message": alert.message,
        "metadata": dict(alert.metadata),
        "text": f"{alert.flow} · {alert.event_type} · {alert.run_id}\n{alert.message}",
    }
