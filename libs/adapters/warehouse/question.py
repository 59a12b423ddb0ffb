"""Somebody's own question to a generation, from a place where questions come from anybody who can open a page.

It is answered by a process of its own. DuckDB's memory limit does not count every string, and some functions hear no
interrupt for half a minute: a process can be limited by the system, and ended.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from libs.errors import Permanent, Transient

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Answer", "Asked", "Limits", "Said", "ask"]

_STARTS_WITHIN: Final = 5.0
"""Seconds that a busy machine may take to begin."""
_ROOT: Final = Path(__file__).parents[3]
_ENVIRONMENT: Final = {
    "PYTHONPATH": str(_ROOT),
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # others set aside a gigabyte of addresses
    "MALLOC_ARENA_MAX": "1",
}
"""All that it is told of ours: no secret, no address."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer may cost. seconds: of the query. cells: rows times columns, of which there are fewer rows where
    columns are many. size: bytes of the rows. memory: megabytes, for DuckDB."""

    seconds: float = 5.0
    rows: int = 1_000
    columns: int = 1_000
    cells: int = 50_000
    size: int = 16_000_000
    memory: int = 256


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told."""

    path: str
    sql: str
    limits: Limits


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the process says before the rows, which are an Arrow stream; with `what` there are none."""

    what: str | None = None
    why: str | None = None
    fix: str | None = None
    cut: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The first rows. cut: there are more. seconds: the query took."""

    table: pa.Table
    cut: bool
    seconds: float


async def ask(path: Path, sql: str, limits: Limits) -> Answer:
    """Ask a generation one question that only reads. Cancelling ends it at once.

    Raises:
        Permanent: it is no such question, the SQL is wrong, or its answer costs more than the limits allow.
        Transient: the process could not be started.
    """
    asked = Asked(path=str(path), sql=sql, limits=limits)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "libs.adapters.warehouse.answering"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_ENVIRONMENT,
        )
    except OSError as error:
        raise Transient("the question could not be asked", why=str(error)) from error
    try:
        async with asyncio.timeout(limits.seconds + _STARTS_WITHIN):
            told, _ = await process.communicate(msgspec.json.encode(asked))
    except TimeoutError:
        raise too_slow(limits) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _answer(told, process.returncode, limits)


def too_slow(limits: Limits) -> Permanent:
    return Permanent(f"the query took longer than {limits.seconds:g} s", why="it was stopped")


def too_hungry(limits: Limits) -> Permanent:
    return Permanent(f"the query needs more than {limits.memory} MB of memory", why="it was stopped")


def _answer(told: bytes, code: int | None, limits: Limits) -> Answer:
    head, _, rows = told.partition(b"\n")
    if code in (-signal.SIGALRM, -signal.SIGXCPU):
        raise too_slow(limits)
    if code != 0 or not head:
        # The system gave it no more memory, at a place where no error could be made of that.
        raise too_hungry(limits)
    said = msgspec.json.decode(head, type=Said)
    if said.what is not None:
        raise Permanent(said.what, why=said.why, fix=said.fix)
    import pyarrow as pa

    return Answer(pa.ipc.open_stream(rows).read_all(), said.cut, said.seconds)
