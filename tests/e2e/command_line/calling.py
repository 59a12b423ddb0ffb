"""drp as a user gives it: another process, its exit code, what it says, a terminal where one is asked for."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from libs.testing.platform import RunningPlatform

__all__ = ["Drp", "Said", "closed", "interrupted", "on_a_terminal", "published", "ran", "until_said"]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Drp:
    """The platform with what was published, and the folder of the files."""

    platform: RunningPlatform
    folder: Path
    first: str
    second: str

    def __call__(self, *arguments: str, **environment: str) -> Said:
        return ran(self.platform, *arguments, **environment)


def ran(platform: RunningPlatform, *arguments: str, **environment: str) -> Said:
    done = subprocess.run(
        platform.command(*arguments),
        env={**platform.environment, **environment},
        cwd=platform.home.parent,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def published(platform: RunningPlatform, path: Path, text: str) -> str:
    """The closed batch that holds the file's rows."""
    path.write_text(text)
    assert ran(platform, "publish", "--file", str(path)).code == 0
    return closed(platform)


def closed(platform: RunningPlatform) -> str:
    """The one open batch, once it has taken all that was published, closed by command."""
    deadline = time.monotonic() + 120
    while platform.ledger().in_flight and time.monotonic() < deadline:
        time.sleep(0.1)
    said = ran(platform, "batches", "close", "--all", "--reason", "a test", "--json")
    (batch,) = said.document["closed"]
    return str(batch)


def on_a_terminal(drp: Drp, *arguments: str, answer: str = "", **environment: str) -> Said:
    """The command with a terminal for stdin and stderr; stdout is a pipe."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        drp.platform.command(*arguments),
        env={**drp.platform.environment, "TERM": "xterm", "COLUMNS": "100", **environment},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as running:
        os.close(theirs)
        os.write(ours, answer.encode())
        drawn = b""
        while piece := _read(ours):
            drawn += piece
        out, _ = running.communicate(timeout=240)
    os.close(ours)
    return Said(running.returncode, out.decode(), drawn.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other end is closed
        return b""


def until_said(stream: IO[str], text: str) -> str:
    """What a process said up to the line that ends the text; all of it if it ended before."""
    heard = ""
    while text not in heard and (line := stream.readline()):
        heard += line
    return heard


def interrupted(drp: Drp, arguments: Sequence[str], *, once: str) -> Said:
    """The command, with Ctrl-C once it has said something."""
    with subprocess.Popen(
        drp.platform.command(*arguments),
        env=drp.platform.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        heard = until_said(running.stderr, once)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=240)
    return Said(running.returncode, out, heard + err)
