"""What -h says: one snapshot a command. Write them anew: SNAPSHOTS=write pytest tests/unit/cli/test_help.py"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from services.cli.app import app
from tests.unit.cli.calling import Drp

SNAPSHOTS: Final = Path(__file__).parent / "snapshots"
WRITES_BYTES: Final = {"archive get"}
"""Commands whose data is what is stored: no JSON."""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    yield " ".join(path), group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS: Final = dict(commands(typer.main.get_command(app)))
LEAVES: Final = [path for path, command in COMMANDS.items() if not hasattr(command, "commands")]


@pytest.mark.parametrize("path", COMMANDS)
def test_help_is_what_was_agreed(drp: Drp, path: str) -> None:
    found = drp(*path.split(), "-h")
    assert (found.code, found.err) == (0, "")
    assert max(map(len, found.out.splitlines())) <= 80

    snapshot = SNAPSHOTS / f"{'-'.join(['drp', *path.split()])}.txt"
    if os.environ.get("SNAPSHOTS") == "write":
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(found.out)
    kept = snapshot.read_text() if snapshot.exists() else "(no snapshot yet)"
    assert found.out == kept, "if it is meant: SNAPSHOTS=write pytest tests/unit/cli/test_help.py"


def test_no_snapshot_is_of_a_command_that_is_gone() -> None:
    kept = {path.stem for path in SNAPSHOTS.glob("*.txt")}
    assert kept == {"-".join(["drp", *path.split()]) for path in COMMANDS}


def test_every_command_stands_in_the_help_once_and_whole(drp: Drp) -> None:
    names = [
        line.split()[0] for line in drp("-h").out.splitlines() if line.startswith("  ") and "  " in line[2:]
    ]
    top = [path for path in COMMANDS if path and " " not in path]
    assert [names.count(name) for name in top] == [1] * len(top)


@pytest.mark.parametrize("path", [path for path in COMMANDS if hasattr(COMMANDS[path], "commands")])
def test_no_summary_is_cut_off(drp: Drp, path: str) -> None:
    assert "..." not in drp(*path.split(), "-h").out.partition("Commands:")[2]
    assert "..." not in drp(*path.split(), "-h").out.partition("Platform:")[2]


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_answers_in_json_too(path: str) -> None:
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    assert ("--json" in options) is (path not in WRITES_BYTES)
