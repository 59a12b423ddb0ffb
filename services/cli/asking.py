"""Who gives a command, and whether they mean it."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from libs.errors import Permanent
from services.cli.output import say

__all__ = ["DryRun", "Why", "Yes", "actor", "check_answerable", "confirmed", "edited"]

Why = Annotated[str, typer.Option("--reason", "--because", metavar="TEXT", help="Why. It is kept.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


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
    check_answerable(yes=yes)
    if yes:
        return True
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - a question waits on its line
    if (await _line()).strip().lower() in ("y", "yes"):
        return True
    say("Nothing was done.")
    return False


def check_answerable(*, yes: bool) -> None:
    """That a question will not be asked where nobody can answer.

    Raises:
        BadParameter: it would be.
    """
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter("this asks first, and nobody is there to answer; if it is meant, say --yes")


def edited(document: bytes) -> bytes:
    """What the person makes of the document in their editor ($VISUAL, $EDITOR, else vi).

    Raises:
        BadParameter: there is no terminal for it.
        Permanent: the editor failed, or nothing was changed.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter("--edit needs a terminal; elsewhere: --file FILE")
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "event.json"
        file.write_bytes(before := _laid_out(document))
        done = subprocess.run([*shlex.split(editor), str(file)], stdout=sys.stderr, check=False)
        after = file.read_bytes()
    if done.returncode != 0:
        raise Permanent(f"{editor} ended with {done.returncode}", why="nothing was kept", fix="--file FILE")
    if after == before:
        raise Permanent("nothing was changed in the editor")
    return after


def _laid_out(document: bytes) -> bytes:
    """Indented, if it is JSON."""
    try:
        return msgspec.json.format(document, indent=2) + b"\n"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return document


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
