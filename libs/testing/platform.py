"""A whole embedded platform for a test, driven through the `drp` command as its user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["RunningPlatform"]

_SETTLE: int = 150


class RunningPlatform:
    """Its data in one folder; start() and stop() as often as wanted.

    Args:
        environment: settings on top of the defaults, e.g. DRP_DATASETS_DIR.
    """

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DRP_", "OTEL_"))}
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
        command = [sys.executable, "-m", "services.cli.app", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )

    def json(self, *arguments: str, expect: int | Sequence[int] = 0) -> Any:
        """What the command says with --json."""
        return json.loads(self.drp(*arguments, "--json", expect=expect))

    def settle(self, *, expect: int = 0) -> None:
        """Wait until nothing is on its way. expect=3: something is blocked."""
        self.drp("batches", "wait", "--all", "--timeout", str(_SETTLE), expect=expect)

    def ask(self, sql: str, *, dataset: str = "orders") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(
            self.drp("sql", sql, "--dataset", dataset, "--format", "json")
        )
        return rows

    def part(self, name: str) -> dict[str, Any]:
        """A process of the platform, as `drp status` tells it."""
        parts: list[dict[str, Any]] = self.json("status", expect=(0, 3))["parts"]
        return next(part for part in parts if part["name"] == name)

    def kill(self, name: str) -> None:
        """kill -9 a process of the platform; the supervisor starts it again."""
        os.kill(self.part(name)["pid"], signal.SIGKILL)
