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
    within: float = ...,
    every: float = ...,
) -> T: ...
@overload
async def until(condition: Callable[[], T], *, within: float = ..., every: float = ...) -> T: ...
async def until(condition: Callable[[], T | Awaitable[T]], *, within: float = 240, every: float = 0.02) -> T:
    """What the condition returns once that is truthy. within and every in seconds.

    The deadline is for what hangs, far above what a slow machine needs.

    Raises:
        AssertionError: it never was; says what was waited for and what came last.
    """
    deadline = time.monotonic() + within
    while True:
        outcome = condition()
        value: T = await outcome if inspect.isawaitable(outcome) else outcome
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s for {_described(condition)}, last it was {value!r}")
        await asyncio.sleep(every)


def _described(condition: Callable[..., object]) -> str:
    try:
        source = inspect.getsource(condition).strip()
    except (OSError, TypeError):
        source = repr(condition)
    return " ".join(source.split())[:300]
