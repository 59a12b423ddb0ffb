"""Work that is done again and again survives what passes, and nothing else."""

from __future__ import annotations

import asyncio
import logging

import pytest

from libs.adapters import metrics
from libs.errors import Permanent, Transient
from libs.runtime import loops
from libs.runtime.loops import Loop
from libs.testing.waiting import until


class Work:
    """Raises the given errors in turn, then succeeds."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error


async def run(work: Work, *, seconds: float, calls: int) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(Loop(seconds, work, name="work").run(stop))
    await until(lambda: work.calls >= calls or task.done())
    stop.set()
    await asyncio.wait_for(task, 60)


async def test_it_is_done_at_once_and_again() -> None:
    work = Work()
    await run(work, seconds=0.001, calls=3)
    assert work.calls >= 3


async def test_a_nudge_is_not_waited_for() -> None:
    work, stop = Work(), asyncio.Event()
    loop = Loop(3600, work, name="work")
    task = asyncio.create_task(loop.run(stop))
    await until(lambda: work.calls == 1)
    loop.nudge()
    await until(lambda: work.calls == 2)
    stop.set()
    await asyncio.wait_for(task, 60)


async def test_what_passes_is_tried_again_and_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "LONGEST_PAUSE", 0.001)
    caplog.set_level(logging.INFO)
    await run(Work(Transient("gone"), Transient("gone")), seconds=0.001, calls=4)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_what_does_not_pass_is_told_once_and_tried_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await run(Work(Permanent("wrong"), Permanent("wrong"), Permanent("other")), seconds=0.001, calls=5)
    assert [record.getMessage() for record in caplog.records][:2] == ["work: wrong", "work: other"]


async def test_failures_make_the_pauses_longer() -> None:
    loop = Loop(1, Work(), name="work")
    seen = []
    for failures in range(8):
        loop.failures = failures
        seen.append(loop.pause)
    assert seen == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_a_mistake_of_ours_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        await Loop(1, Work(ZeroDivisionError()), name="work").run(asyncio.Event())


async def test_work_under_way_is_finished_before_it_ends() -> None:
    stop, begun, finished = asyncio.Event(), asyncio.Event(), False

    async def work() -> None:
        nonlocal finished
        begun.set()
        await asyncio.sleep(0.02)
        finished = True

    task = asyncio.create_task(Loop(1, work, name="work").run(stop))
    await begun.wait()
    stop.set()
    await asyncio.wait_for(task, 60)
    assert finished


async def test_failed_rounds_are_counted_by_whether_waiting_helps() -> None:
    def counted(kind: str) -> float:
        return float(metrics.RECONCILE_FAILURES.labels("counted", kind)._value.get())

    await Loop(1, Work(), name="counted")._once()
    assert (counted("transient"), counted("permanent")) == (0, 0)
    loop = Loop(1, Work(Transient("gone"), Permanent("wrong"), Transient("gone")), name="counted")
    for _ in range(4):
        await loop._once()
    assert (counted("transient"), counted("permanent")) == (2, 1)
