"""A whole embedded platform for a test, driven through the `drp` command as its user would.

What only looks (is it ready, has all settled, what do readers see) asks in this process, with what `drp` asks
with: a command is a second of Python's start each time.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from libs.adapters.bus import Bus
from libs.adapters.postgres import Postgres
from libs.adapters.warehouse import Warehouse, query, write_result
from libs.datasets import Dataset, datasets_folder_from, load_datasets
from libs.operations.ledger import LedgerReport, verify_ledger
from libs.operations.settled import wait_until_settled
from libs.runtime.status import PartStatus, environment, status
from libs.testing.waiting import until

__all__ = ["RunningPlatform", "Stores"]

T = TypeVar("T")

_SETTLE: Final = 150
_ANSWERS_WITHIN: Final = 30.0
_NOT_INHERITED: Final = ("DRP_", "OTEL_", "AWS_")
"""Beginnings of settings that would lead a test's platform to somebody's real servers."""


@dataclass(frozen=True)
class Stores:
    """The platform's servers, open in this process."""

    postgres: Postgres
    bus: Bus


class RunningPlatform:
    """Its data in one folder; start() and stop() as often as wanted.

    Args:
        environment: settings on top of the defaults, e.g. DRP_DATASETS_DIR.
    """

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        self.environment = {**kept, "DRP_HOME": str(home), **(environment or {})}

    def start(self) -> None:
        self.drp("up", "--detach")

    def stop(self) -> None:
        self.drp("down")

    def drp(self, *arguments: str, expect: int | Sequence[int] = 0) -> str:
        """Run the command; its stdout. Any other exit code than expected fails the test with what it said."""
        done = self.run(*arguments)
        allowed = (expect,) if isinstance(expect, int) else tuple(expect)
        assert done.returncode in allowed, (  # noqa: S101 - a test's own check
            f"drp {' '.join(arguments)} exited {done.returncode}, not {allowed}:\n"
            f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """What to run for `drp` with these arguments, in this platform's environment."""
        return [sys.executable, "-m", "services.cli.app", *arguments]

    def json(self, *arguments: str, expect: int | Sequence[int] = 0) -> Any:
        """What the command says with --json."""
        return json.loads(self.drp(*arguments, "--json", expect=expect))

    @property
    def urls(self) -> dict[str, str]:
        """The settings to reach what runs, DRP_REDIS_URL to DRP_GENERATOR_URL."""
        return environment(self.home)

    @property
    def datasets(self) -> dict[str, Dataset]:
        return load_datasets(datasets_folder_from(self.environment.get("DRP_DATASETS_DIR")))

    def with_stores(self, work: Callable[[Stores], Awaitable[T]]) -> T:
        """What the work returns, given the platform's servers."""
        urls = self.urls

        async def run() -> T:
            async with AsyncExitStack() as stack:
                postgres = await Postgres.open(
                    urls["DRP_POSTGRES_URL"], service="test", max_size=2, timeout=_ANSWERS_WITHIN
                )
                stack.push_async_callback(postgres.close)
                bus = await Bus.connect(
                    urls["DRP_REDIS_URL"], service="test", consumer="test", timeout=_ANSWERS_WITHIN
                )
                stack.push_async_callback(bus.stop)
                return await work(Stores(postgres, bus))

        return asyncio.run(run())

    def rows(self, sql: str, *arguments: object) -> list[dict[str, Any]]:
        """Rows of the platform's Postgres."""

        async def ask(stores: Stores) -> list[dict[str, Any]]:
            return [dict(row) for row in await stores.postgres.fetch(sql, *arguments)]

        return self.with_stores(ask)

    def settle(self, *, expect: int = 0) -> None:
        """Wait until nothing is on its way. expect=3: something is blocked, as `drp batches wait` says it."""
        archive = self.environment.get("DRP_ARCHIVE") != "off"

        async def wait(stores: Stores) -> int:
            left = await wait_until_settled(
                stores.postgres,
                stores.bus,
                self.datasets,
                timeout=_SETTLE,
                archive=archive,
                warehouses=self.home / "warehouse",
            )
            return left.blocked

        blocked = self.with_stores(wait)
        assert bool(blocked) == (expect == 3), f"{blocked} batches are blocked"  # noqa: S101 - a test's own check

    def ledger(self, dataset: str = "orders") -> LedgerReport:
        """The dataset's ledger, counted again."""

        async def count(stores: Stores) -> list[LedgerReport]:
            return await verify_ledger(stores.postgres, stores.bus, {dataset: self.datasets[dataset]})

        (report,) = self.with_stores(count)
        return report

    def ask(self, sql: str, *, dataset: str = "orders") -> list[dict[str, Any]]:
        """Rows of the generation that readers see, as `drp sql --format json` tells them."""
        current = Warehouse(self.home / "warehouse", dataset).current()
        assert current is not None, f"nothing of {dataset} is published"  # noqa: S101 - a test's own check
        written = io.BytesIO()
        write_result(query(current, sql), written, "json")
        rows: list[dict[str, Any]] = json.loads(written.getvalue())
        return rows

    def part(self, name: str) -> PartStatus:
        """A process of the platform, as `drp status` tells it."""
        return next(part for part in status(self.home).parts if part.name == name)

    def kill(self, name: str) -> None:
        """kill -9 a process of the platform; the supervisor starts it again."""
        pid = self.part(name).pid
        assert pid is not None, f"{name} does not run"  # noqa: S101 - a test's own check
        os.kill(pid, signal.SIGKILL)

    @contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """A process of the platform, and what it started, give no sign meanwhile."""
        pid = self.part(name).pid
        assert pid is not None, f"{name} does not run"  # noqa: S101 - a test's own check
        first = psutil.Process(pid)
        first.suspend()
        family = [first, *first.children(recursive=True)]
        for each in family[1:]:
            each.suspend()
        try:
            yield
        finally:
            for each in reversed(family):
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def await_restart(self, name: str, restarts: int) -> None:
        """Wait until the supervisor has started it again so many times in all, and it is ready."""

        def back() -> bool:
            part = self.part(name)
            return part.ready and (part.restarts or 0) >= restarts

        asyncio.run(until(back, every=0.1))
