"""The watchdog's eye: what FastStream doesn't say aloud. Its subscriber can be dead in a living process."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["ending_of", "trouble_of"]


def trouble_of(subscriber: Any) -> str | None:
    """Why a subscriber that was started reads no more, None while it does.

    FastStream stops a subscriber whose stream or group was deleted, and (with its supervisor off) lets its
    task end on READONLY and NOPERM; neither ends the process.
    """
    if not subscriber.running or not subscriber.tasks:
        return "it stopped reading: the stream or its group was deleted"
    return next((ending_of(task) for task in subscriber.tasks if task.done()), None)


def ending_of(task: asyncio.Task[None]) -> str:
    error = None if task.cancelled() else task.exception()
    return "it stopped reading" if error is None else f"it stopped reading: {type(error).__name__}: {error}"
