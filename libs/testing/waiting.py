"""Waiting in tests: for a condition, with a deadline, never for a while."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

__all__ = ["until"]

T = TypeVar("T")


@overload
async def until(
    condition: Callable[[], Awaitable[T]],
    *,
    timeout: float = ...,  # noqa: ASYNC109
    every: float = ...,
) -> T: ...
@overload
async def until(condition: Callable[[], T], *, timeout: float = ..., every: float = ...) -> T: ...  # noqa: ASYNC109
async def until(condition: Callable[[], T | Awaitable[T]], *, timeout: float = 240, every: float = 0.02) -> T:  # noqa: ASYNC109 - the usual name
    """What the condition returns once that is truthy. timeout and every in seconds.

    Raises:
        AssertionError: it never was; says what was waited for and what came last.
    """
    deadline = time.monotonic() + timeout
    while True:
        outcome = condition()
        value: T = await outcome if inspect.isawaitable(outcome) else outcome
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {_described(condition)}, last it was {value!r}")
        await asyncio.sleep(every)


def _described(condition: Callable[..., object]) -> str:
    try:
        source = inspect.getsource(condition).strip()
    except (OSError, TypeError):
        source = repr(condition)
    return " ".join(source.split())[:300]
