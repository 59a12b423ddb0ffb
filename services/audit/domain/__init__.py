"""What the audit makes of a fact, and of a fact that doesn't come. Pure: values in, values out."""

from __future__ import annotations

from services.audit.domain.alerts import Alert, alert_of, webhook_body
from services.audit.domain.retries import MAX_ATTEMPTS, pause_before
from services.audit.domain.steps import (
    UNREADABLE,
    Step,
    step_of,
    unreadable_step,
)
from services.audit.domain.waiting import (
    DEADLINE,
    Backlog,
    Overdue,
    Unarchived,
    backlog_step,
    deadline_step,
    unarchived_step,
)

__all__ = [
    "DEADLINE",
    "MAX_ATTEMPTS",
    "UNREADABLE",
    "Alert",
    "Backlog",
    "Overdue",
    "Step",
    "Unarchived",
    "alert_of",
    "backlog_step",
    "deadline_step",
    "pause_before",
    "step_of",
    "unarchived_step",
    "unreadable_step",
    "webhook_body",
]
