"""A million orders through the embedded platform: how fast, with how much memory, and is every cent there?

    python -m tests.bench.million [--orders N] [--producer xadd|publish|both] [--bare-dates] [--json]

xadd: arrays of 500 events a stream entry, all of them appended at once: what the platform does undisturbed.
publish: `drp publish` of a CSV file, which waits when it gets too far ahead, on the same machine.
Exits 3 if the mart isn't exact or the ledger doesn't balance.
"""

from __future__ import annotations

import argparse
import json
import os
import platform as machine
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from libs.testing.platform import RunningPlatform
from tests.bench.memory import Sampler, Used
from tests.bench.orders import append, entries, expected, write_csv

__all__ = ["Run", "main", "run"]

SETTLE: Final = 280
PRODUCERS: Final = ("xadd", "publish")
TITLES: Final = ("CPU s", "start", "at 30 %", "at 100 %", "settled", "median", "max")

_MART: Final = """
SELECT sum(total_orders)::BIGINT AS orders, sum(total_amount)::VARCHAR AS total
FROM analytics.daily_order_metrics
"""
_LANDING: Final = """
-- one row: between the begins of the first and the last landing stands the work of all but the last
SELECT extract(epoch FROM max(landed_at) - min(landed_at))::float8 AS seconds,
       (SELECT sum(accepted) FROM ops.entries WHERE landed_at < (SELECT max(landed_at) FROM ops.entries))::bigint,
       min(landed_at), max(landed_at)
FROM ops.entries
"""
_ENDS: Final = """
-- one row: when the last batch was closed, published, archived
SELECT (SELECT max(closed_at) FROM ops.batches), (SELECT max(published_at) FROM ops.generations),
       greatest((SELECT max(archived_at) FROM ops.batches), (SELECT max(archived_at) FROM ops.generations)),
       (SELECT count(*) FROM ops.batches), (SELECT count(*) FROM ops.generations WHERE published_at IS NOT NULL)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Rates in events a second; times in seconds; memory in mebibytes by process."""

    producer: str
    orders: int
    exact: bool
    balanced: bool
    publish_rate: float
    landing_rate: float
    landing_seconds: float
    whole_seconds: float
    """From the first event published to everything published in the mart and archived."""
    published_after: float
    """From the last event published to the mart that holds them all; below 0 it never came to that."""
    archived_after: float
    """From the last batch closed to its, and the last generation's, archive."""
    batches: int
    generations: int
    processes: Mapping[str, Used]


def main() -> int:
    arguments = _arguments()
    producers = PRODUCERS if arguments.producer == "both" else (arguments.producer,)
    runs = [run(arguments.orders, each, bare_dates=arguments.bare_dates) for each in producers]
    report = {
        "machine": f"{os.cpu_count()} CPUs, {machine.system()} {machine.machine()}, Python {machine.python_version()}",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": [asdict(each) for each in runs],
    }
    if arguments.json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write(f"{report['machine']}\n\n" + "\n".join(map(_told, runs)))
    return 0 if all(each.exact and each.balanced for each in runs) else 3


def run(orders: int, producer: str, *, bare_dates: bool = False) -> Run:
    """One run on a platform of its own, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="drp-million-") as folder:
        platform = RunningPlatform(Path(folder) / ".drp")
        platform.start()
        try:
            return _measured(platform, orders, producer, Path(folder), bare_dates=bare_dates)
        finally:
            platform.stop()


def _measured(
    platform: RunningPlatform, orders: int, producer: str, folder: Path, *, bare_dates: bool
) -> Run:
    urls = platform.json("env")
    file = folder / "orders.csv"
    documents: list[bytes] = []
    if producer == "publish":
        write_csv(file, orders, bare_dates=bare_dates)
    else:
        documents = list(entries(orders))
    pids = {part["name"]: part["pid"] for part in platform.json("status")["parts"]}
    began = time.time()
    with Sampler(pids, urls["DRP_POSTGRES_URL"], orders) as sampler:
        if producer == "publish":
            seconds = platform.json("publish", "--file", str(file))["seconds"]
        else:
            seconds = append(urls["DRP_REDIS_URL"], documents)
        last_published = time.time()
        platform.drp("batches", "wait", "--all", "--timeout", str(SETTLE))
    ended = time.time()
    wanted, (found,) = expected(orders), platform.ask(_MART)
    (ledger,) = platform.json("ledger", "verify")
    with psycopg.connect(urls["DRP_POSTGRES_URL"], autocommit=True) as connection:
        landing = connection.execute(_LANDING).fetchone() or (0.0, 0)
        closed, published, archived, batches, generations = connection.execute(_ENDS).fetchone() or ()
    return Run(
        producer=producer,
        orders=orders,
        exact=found == {"orders": wanted.orders, "total": str(wanted.total)},
        balanced=(ledger["accepted"], ledger["unaccounted"], ledger["in_flight"]) == (orders, 0, 0),
        publish_rate=orders / seconds,
        landing_rate=landing[1] / landing[0],
        landing_seconds=landing[0],
        whole_seconds=ended - began,
        published_after=published.timestamp() - last_published,
        archived_after=(archived - closed).total_seconds(),
        batches=batches,
        generations=generations,
        processes=sampler.found(),
    )


def _told(each: Run) -> str:
    lines = [
        f"{each.orders:,} orders by {each.producer}: "
        f"{'every order and every cent is there' if each.exact and each.balanced else 'NOT EXACT'}",
        f"  published              {each.publish_rate:>10,.0f} a second",
        f"  landed                 {each.landing_rate:>10,.0f} a second ({each.landing_seconds:.1f} s)",
        f"  in the mart            {each.published_after:>10.1f} s after the last was published",
        f"  archived               {each.archived_after:>10.1f} s after the last batch closed",
        f"  all settled            {each.whole_seconds:>10.1f} s after the first was published,"
        f" {each.orders / each.whole_seconds:,.0f} a second",
        f"  batches, generations   {each.batches:>10,}, {each.generations:,}",
        "",
        "  " + f"{'MiB':<12}" + "".join(f"{title:>9}" for title in TITLES),
    ]
    for name, used in each.processes.items():
        held = [used.start, used.at_30_percent, used.at_100_percent, used.settled, used.median, used.highest]
        cells = "".join(f"{mebibytes:>9.0f}" for mebibytes in held)
        lines.append(f"  {name:<12}{used.cpu_seconds:>9.1f}{cells}")
    return "\n".join(lines) + "\n"


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        prog="tests.bench.million", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--producer", choices=[*PRODUCERS, "both"], default="both")
    parser.add_argument("--bare-dates", action="store_true", help="dates without a time in the file")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
