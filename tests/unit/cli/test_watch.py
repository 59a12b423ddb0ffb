"""drp status --watch: looks again and again, whatever it finds, until Ctrl-C."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.runtime.home import Home, State
from libs.runtime.processes import Process, free_port
from tests.unit.cli.calling import Called, Drp, terminal

UP_A_LINE = "\x1b[1A"


@dataclass
class Screen:
    """The terminal that the command writes to."""

    terminal: int
    seen: str = ""

    def until(self, enough: Callable[[str], bool]) -> str:
        """All that was written, once it is enough."""
        deadline = time.monotonic() + 120
        while not enough(self.seen):
            assert select.select([self.terminal], [], [], deadline - time.monotonic())[0], self.seen[-1000:]
            self.seen += os.read(self.terminal, 65_536).decode()
        return self.seen

    def line(self, number: int) -> Any:
        """The document on the line of that number, from 0."""
        return json.loads(self.until(lambda seen: seen.count("\n") > number).splitlines()[number])


@pytest.fixture
def watch(drp: Drp, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """The command, interrupted once `then` has seen enough of the screen."""

    def run(then: Callable[[Screen], None], *arguments: str) -> Called:
        with terminal(monkeypatch, "stdout") as screen, ThreadPoolExecutor(1) as beside:

            def see() -> None:
                try:
                    then(Screen(screen))
                finally:
                    os.kill(os.getpid(), signal.SIGINT)

            seen = beside.submit(see)
            said = drp("status", "--watch", "--every", "0.1", *arguments)
            seen.result()
        return said

    return run


def runs_here(home: Path, postgres_url: str) -> None:
    """A platform without a part, whose Postgres is said to be there."""
    me = Process.of(os.getpid())
    assert me is not None
    (home / "run").mkdir(parents=True, exist_ok=True)
    state = State(
        pid=me.pid,
        started=me.started,
        started_at=datetime.now(UTC),
        ready=True,
        parts=[],
        environment={"DRP_POSTGRES_URL": postgres_url},
    )
    Home(home).write(state)


def test_a_terminal_is_drawn_anew_in_its_place(watch: Callable[..., Called]) -> None:
    drawn = ""

    def see(screen: Screen) -> None:
        nonlocal drawn
        drawn = screen.until(lambda seen: seen.count("Nothing runs in") > 2)

    said = watch(see)
    assert (said.code, said.out, said.err) == (130, "", "drp: interrupted\n")
    first, _, again = drawn.partition("Nothing runs in")
    assert "every 0.1 s until Ctrl-C" in first
    assert UP_A_LINE not in first
    assert UP_A_LINE in again


def test_it_waits_for_a_platform_that_comes_and_looks_where_it_is_then(
    watch: Callable[..., Called], tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]

    def see(screen: Screen) -> None:
        assert screen.line(0)["running"] is False
        for port in ports:
            runs_here(tmp_path / "home", f"postgresql://drp@127.0.0.1:{port}/drp")
            screen.until(lambda seen, url=f"127.0.0.1:{port}": url in seen)  # type: ignore[misc]

    said = watch(see, "--health", "--json")
    assert (said.code, said.err) == (130, "drp: interrupted\n")


def test_it_goes_on_though_what_it_finds_would_not_pass_by_itself(
    watch: Callable[..., Called], tmp_path: Path
) -> None:
    runs_here(tmp_path / "home", "no address of a Postgres")

    def see(screen: Screen) -> None:
        assert screen.line(0)["unreachable"]
        assert screen.line(1)["unreachable"]

    assert watch(see, "--health", "--json").code == 130


def test_json_is_a_line_for_each_look(watch: Callable[..., Called]) -> None:
    def see(screen: Screen) -> None:
        first, second = screen.line(0), screen.line(1)
        assert first.pop("at") < second.pop("at")
        assert first == second
        assert (first["running"], first["unreachable"]) == (False, None)

    assert watch(see, "--json").code == 130


def test_a_look_is_in_the_pipe_at_once_and_the_reader_may_leave() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "services.cli.app", "status", "--watch", "--every", "0.2"],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        assert running.stdout is not None
        first = os.read(running.stdout.fileno(), 65_536)
        running.stdout.close()  # as head does
        try:
            assert running.wait(20) == 0
        finally:
            running.kill()
    assert first.decode().startswith(f"{os.environ['DRP_HOME']}, ")
    assert first.count(b"until Ctrl-C") == 1
