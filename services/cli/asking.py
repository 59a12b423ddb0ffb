"""Who gives a command, and whether they mean it."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys

import typer

from services.cli.output import say

__all__ = ["actor", "confirmed"]


def actor() -> str:
    """Who is recorded beside an action."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


async def confirmed(question: str, *, yes: bool) -> bool:
    """Whether to go on. Asks on a terminal; where nobody can answer, --yes must have been said.

    Raises:
        BadParameter: nobody is there to ask.
    """
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter("this asks first, and nobody is there to answer; if it is meant, say --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - a question waits on its line
    if (await _line()).strip().lower() in ("y", "yes"):
        return True
    say("Nothing was done.")
    return False


async def _line() -> str:
    """A line of the terminal. Waited for in the loop: a blocking read would swallow the first Ctrl-C."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()
