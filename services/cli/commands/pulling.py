"""drp publish --url: pulling an address, once or until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from libs.errors import DrpError
from services.cli.output import INTERRUPTED, PROBLEMS, counted, number, say, write_json
from services.cli.settings import operator

if TYPE_CHECKING:
    from libs.adapters.bus import Bus
    from libs.datasets import Dataset
    from libs.operations.pull import Pulled

__all__ = ["WAIT", "Headers", "Rows", "Wanted", "pair", "publishing", "pull", "seconds_of"]

WAIT: Final = "Wait until readers see them: drp batches wait --all"

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")


@dataclass(frozen=True)
class Rows:
    """What becomes of the rows, whatever they come out of."""

    mapping: dict[str, str]
    source: str | None
    dataset: str | None
    time: datetime | None
    rate: float | None


@dataclass(frozen=True)
class Headers:
    """As they were given: NAME=VALUE, NAME=VARIABLE, and a file of `NAME: VALUE` lines."""

    plain: list[str]
    from_environment: list[str]
    file: Path | None

    @property
    def given(self) -> bool:
        return bool(self.plain or self.from_environment or self.file)

    def read(self) -> dict[str, str]:
        found = {} if self.file is None else dict(_header_lines(self.file))
        for text in self.from_environment:
            name, variable = pair(text, "--header-env")
            if variable not in os.environ:
                raise typer.BadParameter(f"--header-env: {variable} is not set")
            found[name] = os.environ[variable]
        return found | dict(pair(text, "--header") for text in self.plain)


@dataclass(frozen=True)
class Wanted:
    """What to pull. every: seconds between rounds; None pulls once. max_size is in mebibytes."""

    url: str = field(repr=False)
    records: str | None
    every: float | None
    headers: dict[str, str] = field(repr=False)
    timeout: float
    max_size: float


async def pull(wanted: Wanted, rows: Rows, *, as_json: bool) -> int:
    """Pull, and tell what came of it; the exit code."""
    from libs.operations.pull import Address, Pull

    address = Address(
        url=wanted.url,
        records=wanted.records,
        headers=wanted.headers,
        timeout=wanted.timeout,
        max_bytes=int(wanted.max_size * 1024 * 1024),
    )
    async with publishing(rows) as (bus, dataset):
        this = Pull(
            bus=bus,
            dataset=dataset,
            address=address,
            mapping=rows.mapping,
            source=rows.source,
            time=rows.time,
            rate=rows.rate,
        )
        interrupts: list[int] = []
        if wanted.every is None:
            with counted("events") as update:
                this.on_progress = lambda events: update(events, None)
                done = await this.once()
        else:
            with _until_told(this.stop, interrupts):
                done = await this.repeat(wanted.every, told=_tell_round)
    if as_json:
        write_json(done)
    _tell(done)
    if interrupts:
        return INTERRUPTED
    return PROBLEMS if done.error else 0


@asynccontextmanager
async def publishing(rows: Rows) -> AsyncIterator[tuple[Bus, Dataset]]:
    """The bus and the dataset, and spans that go to the trace store."""
    from libs.adapters import telemetry

    async with operator() as platform:
        dataset = platform.dataset(rows.dataset)
        bus = await platform.bus()
        told = telemetry.setup("drp", endpoint=platform.settings.otlp_endpoint, log_format="text")
        try:
            yield bus, dataset
        finally:
            told.shutdown()


def pair(text: str, option: str) -> tuple[str, str]:
    """The two sides of what is given as NAME=VALUE; a header's is not repeated if it is wrong."""
    name, separator, value = text.partition("=")
    if separator and name and value:
        return name, value
    if option == "--map":
        raise typer.BadParameter(f"{text!r} is not FIELD=COLUMN")
    raise typer.BadParameter(f"{option} takes NAME=VALUE")


def seconds_of(text: str | None) -> float | None:
    """Of 30s, 5m or 1h; a bare number is seconds."""
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"--every: {text!r} is no time like 30s, 5m or 1h")
    return float(found[1]) * _UNITS[found[2]]


def _header_lines(file: Path) -> Iterator[tuple[str, str]]:
    for at, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, value = line.partition(":")
        if not separator or not name.strip():
            raise typer.BadParameter(f"line {at} of {file} is not `NAME: VALUE`")
        yield name.strip(), value.strip()


@contextmanager
def _until_told(stop: asyncio.Event, interrupts: list[int]) -> Iterator[None]:
    """SIGTERM and Ctrl-C let the round that is under way end; Ctrl-C is noted, and a second one waits for nothing."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        interrupts.append(signal.SIGINT)
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)


def _tell_round(outcome: Pulled | DrpError) -> None:
    at = datetime.now().astimezone().strftime("%H:%M:%S")
    if isinstance(outcome, DrpError):
        say(f"{at} this round failed: {outcome}")
    else:
        say(f"{at} {number(outcome.records, 'record', 'records')}, published {outcome.events:,} of them")


def _tell(done: Pulled) -> None:
    events, records = number(done.events, "event", "events"), number(done.records, "record", "records")
    rounds = "" if done.rounds == 1 else f" in {done.rounds:,} rounds ({done.failed:,} failed)"
    say(f"published {events} out of {records}{rounds} as {done.source}")
    if done.error:
        say(f"the last round failed, what is there now is NOT all published: {done.error}")
    if done.unreadable:
        said = number(done.unreadable, "record is no object", "records are no objects")
        say(f"{said}. See: drp quarantine ls --reason unreadable")
    say(WAIT)
