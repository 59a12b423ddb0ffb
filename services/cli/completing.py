"""What the shell offers on TAB: ids, names and codes as they are now.

Asked while somebody types: it answers at once or with nothing, says nothing, and starts nothing.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from services.cli.settings import home_folder

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres

__all__ = [
    "Offers",
    "batches",
    "datasets",
    "generations",
    "quarantined",
    "reasons",
    "silent",
    "statuses",
    "things",
]

AT_MOST: Final = 20
LISTENS_WITHIN: Final = 0.3
ANSWERS_WITHIN: Final = 1.5
"""Seconds for all that is asked of a Postgres that listens."""

Offers = list[tuple[str, str]]
"""What can be typed, and what is said of it where the shell shows that."""


def silent(offers: Callable[[str], Offers]) -> Callable[[str], Offers]:
    """The offers, or none if anything goes wrong: nobody who types wants to read of it."""

    def offer(incomplete: str) -> Offers:
        try:
            with redirect_stderr(io.StringIO()):
                return offers(incomplete)
        except Exception:  # noqa: BLE001 - see above
            return []

    return offer


@silent
def batches(incomplete: str) -> Offers:
    """The newest whose id starts so, and `last`."""
    from libs.operations.runs import runs

    async def ask(postgres: Postgres) -> Offers:
        found = await runs(postgres, starts_with=incomplete.lower() or None, limit=AT_MOST)
        return [(str(one.id), f"{one.status}, {one.dataset}, {one.rows_in:,} events") for one in found]

    found = _asked(ask)
    return [*found, *([("last", "the newest")] if found or incomplete else [])]


@silent
def generations(_incomplete: str) -> Offers:
    """The newest, by number."""
    from libs.operations import reading

    async def ask(postgres: Postgres) -> Offers:
        found = await reading.generations(postgres, limit=AT_MOST)
        return [(str(one["number"]), f"{one['state']}, {one['dataset']}") for one in found]

    return _asked(ask)


@silent
def quarantined(_incomplete: str) -> Offers:
    """The newest that are open, by number."""
    from libs.operations import reading

    async def ask(postgres: Postgres) -> Offers:
        found = await reading.quarantine(postgres, state="open", limit=AT_MOST)
        return [(str(one["id"]), " ".join(filter(None, (one["reason"], one["field"])))) for one in found]

    return _asked(ask)


def things(incomplete: str) -> Offers:
    """What `drp why` explains: batches, generations, quarantined events."""
    refused = [(f"quarantine:{number}", said) for number, said in quarantined("")]
    return [*batches(incomplete), *generations(incomplete), *refused]


@silent
def datasets(_incomplete: str) -> Offers:
    from libs.datasets import datasets_folder_from, load_datasets

    folder = _setting("DRP_DATASETS_DIR")
    return [(name, dataset.stream) for name, dataset in load_datasets(datasets_folder_from(folder)).items()]


@silent
def statuses(_incomplete: str) -> Offers:
    from libs.operations.reading import STATUSES

    return [(name, "") for name in STATUSES]


@silent
def reasons(_incomplete: str) -> Offers:
    from libs.pipeline.refusals import REASONS

    return list(REASONS.items())


def _asked(ask: Callable[[Postgres], Awaitable[Offers]]) -> Offers:
    """What the platform's Postgres knows; nothing if none listens."""
    url = _setting("DRP_POSTGRES_URL")
    if not url:
        return []
    place = urlsplit(url)
    socket.create_connection((place.hostname or "", place.port or 5432), LISTENS_WITHIN).close()

    async def within() -> Offers:
        from libs.adapters.postgres import Postgres

        async with asyncio.timeout(ANSWERS_WITHIN):
            postgres = await Postgres.open(url, service="drp", max_size=1, timeout=ANSWERS_WITHIN)
            try:
                return await ask(postgres)
            finally:
                await postgres.close()

    return asyncio.run(within())


def _setting(name: str) -> str | None:
    from libs.runtime.status import environment

    if (file := os.environ.get(f"{name}_FILE")) and not os.environ.get(name):
        return Path(file).read_text().strip()
    return os.environ.get(name) or environment(home_folder()).get(name)
