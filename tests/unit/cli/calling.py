"""drp as a process calls it, in this one: its exit code, and what stands on stdout and on stderr."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from services.cli import app

__all__ = ["Called", "Drp", "caller", "terminal"]


@dataclass(frozen=True)
class Called:
    code: int
    out: str
    err: str


Drp = Callable[..., Called]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Drp:
    def drp(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["drp", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Called(ended.value.code, said.out, said.err)

    return drp


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[int]:
    """A terminal behind sys.stdout, sys.stderr or sys.stdin; its other end."""
    ours, theirs = pty.openpty()
    opened = [os.fdopen(os.dup(theirs), "r" if name == "stdin" else "w", encoding="utf-8") for name in names]
    for name, stream in zip(names, opened, strict=True):
        monkeypatch.setattr(sys, name, stream)
    try:
        yield ours
    finally:
        monkeypatch.undo()
        for stream in opened:
            stream.close()
        os.close(theirs)
        os.close(ours)
