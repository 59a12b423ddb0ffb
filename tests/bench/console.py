"""How long the console's pages take with a million orders in ten thousand batches.

    python -m tests.bench.console [--orders N] [--per-batch N] [--requests N] [--home FOLDER] [--json]

Each page is asked for so many times, one after the other, on a platform that is at rest; times are those of the whole
answer over loopback. FOLDER is filled if there is nothing in it, and kept: the next run measures what it holds.
Exits 3 if a page's p95 is over 150 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from libs.testing.platform import RunningPlatform
from tests.bench.orders import append_one_by_one, entries

__all__ = ["Page", "main", "measured"]

LIMIT: Final = 0.150
SETTLE: Final = 1_800
FAULTY: Final = {
    "count": 50_000,
    "seed": 1,
    "faults": {"malformed": 0.2, "negative": 0.01, "duplicate": 0.02},
}
_PAGES: Final = (
    "/",
    "/batches",
    "/batches?sort=rows",
    "/batches?sort=attempts&status=published",
    "/batches?page=150",
    "/batches/last",
    "/quality",
    "/events",
    "/events?q=order-000000021",
    "/quarantine",
    "/quarantine/1",
    "/ledger",
    "/ledger/last",
    "/data",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Seconds of its answers; status: of the last of them."""

    path: str
    status: int
    p50: float
    p95: float
    bytes: int


def main() -> int:
    arguments = _arguments()
    with _platform(arguments.home, arguments.per_batch) as platform:
        urls = platform.json("env")
        if not platform.json("batches", "ls"):
            _fill(urls, arguments.orders, arguments.per_batch)
        _wait_for_rest(platform)
        with httpx.Client(base_url=urls["DRP_CONSOLE_URL"], trust_env=False, timeout=240) as http:
            pages = [measured(http, path, arguments.requests) for path in _PAGES]
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(page) for page in pages], indent=2) + "\n")
    else:
        sys.stdout.write("".join(_told(page) for page in pages))
    return 0 if all(page.p95 < LIMIT and page.status == 200 for page in pages) else 3


def measured(http: httpx.Client, path: str, requests: int) -> Page:
    """The page so many times; the first answer, in which things are opened and read once, is left out."""
    answer = http.get(path)
    seconds = []
    for _ in range(requests):
        began = time.perf_counter()
        answer = http.get(path)
        seconds.append(time.perf_counter() - began)
    cuts = statistics.quantiles(seconds, n=100)
    return Page(
        path=path,
        status=answer.status_code,
        p50=cuts[49],
        p95=cuts[94],
        bytes=len(answer.content),
    )


@contextmanager
def _platform(home: Path | None, per_batch: int) -> Iterator[RunningPlatform]:
    with tempfile.TemporaryDirectory(prefix="drp-console-") as folder:
        settings = {"DRP_BATCH_MAX_EVENTS": str(per_batch)}
        running = RunningPlatform(home or Path(folder) / ".drp", settings)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def _fill(urls: dict[str, str], orders: int, per_batch: int) -> None:
    append_one_by_one(urls["DRP_REDIS_URL"], entries(orders, per_entry=per_batch))
    run = f"{urls['DRP_GENERATOR_URL']}/v1/runs"
    httpx.post(run, json=FAULTY, trust_env=False, timeout=SETTLE).raise_for_status()


def _wait_for_rest(platform: RunningPlatform) -> None:
    """Wait until all is published and archived."""
    deadline = time.monotonic() + SETTLE
    while platform.run("batches", "wait", "--all", "--timeout", "60").returncode != 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not at rest after {SETTLE} s")


def _told(page: Page) -> str:
    mark = "" if page.status == 200 else f"  {page.status}"
    return (
        f"{page.path:<28} p50 {page.p50 * 1000:>6.0f} ms   p95 {page.p95 * 1000:>6.0f} ms"
        f"   {page.bytes / 1000:>6.0f} kB{'  SLOW' if page.p95 >= LIMIT else ''}{mark}\n"
    )


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        prog="tests.bench.console", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--per-batch", type=int, default=100)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--home", type=Path, help="a folder that is kept, and measured again if it is filled")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
