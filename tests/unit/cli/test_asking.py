"""Questions: asked on a terminal only, answered by yes alone, left by Ctrl-C."""

from __future__ import annotations

import asyncio
import getpass
import os

import pytest
import typer

from services.cli.asking import actor, confirmed
from tests.unit.cli.calling import terminal


async def test_yes_said_beforehand_asks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert await confirmed("Really?", yes=True)
    assert capsys.readouterr().err == ""


async def test_where_nobody_can_answer_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.BadParameter, match="say --yes"):
        await confirmed("Really?", yes=False)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.parametrize(
    ("answer", "means"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("what?\n", False), ("\x04", False)],
)
async def test_a_terminal_is_asked_and_its_answer_counts(
    answer: str, means: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch, "stdin", "stderr") as screen:
        asked = asyncio.create_task(confirmed("Really?", yes=False))
        assert await asyncio.to_thread(os.read, screen, 100) == b"Really? [y/N] "
        os.write(screen, answer.encode())
        assert await asyncio.wait_for(asked, 60) is means
    assert capsys.readouterr().out == ""


async def test_a_question_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, "stdin", "stderr") as screen:
        asked = asyncio.create_task(confirmed("Really?", yes=False))
        await asyncio.to_thread(os.read, screen, 100)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asked, 60)


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert actor() == "uid 4711"
