"""What finding an order by its key costs: RAW with and without an index on it, while it is filled and when asked.

    python -m tests.bench.key_index [--orders N] [--rounds N]

Each round fills a RAW table anew, 20,000 rows a COPY as a landing does, for each kind of index and each order of
keys: as they grow, and at random. CPU is that of the Postgres backend, so a busy machine changes little.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from libs.adapters.postgres import migrate
from libs.datasets import load_datasets, raw_table_ddl
from libs.runtime.embedded.postgres import PostgresServer
from libs.runtime.processes import free_port

A_LANDING: Final = 20_000
INDEXES: Final = {
    "none": None,
    "btree": "CREATE INDEX key_index ON raw.orders_raw (source_order_id)",
    "hash": "CREATE INDEX key_index ON raw.orders_raw USING hash (source_order_id)",
    "brin": "CREATE INDEX key_index ON raw.orders_raw USING brin (source_order_id)",
}
COLUMNS: Final = (
    "event_id, source_order_id, customer_id, amount, order_created_at, batch_id, source_system, raw_payload, "
    "event_time, event_type, stream_entry_id, stream_position"
)


@dataclass(frozen=True)
class Filled:
    """CPU seconds of the backend for all rows; bytes; milliseconds of a look-up, the median of many."""

    cpu: float
    wal: int
    size: int
    lookup: float


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drp-key-") as folder:
        server = PostgresServer(Path(folder), free_port())
        server.start()
        try:
            server.wait_ready()
            import asyncio

            asyncio.run(migrate(server.url))
            _compare(server.url, arguments.orders, arguments.rounds)
        finally:
            server.stop()
    return 0


def _compare(url: str, orders: int, rounds: int) -> None:
    found: dict[tuple[str, str], list[Filled]] = {}
    for _ in range(rounds):
        for order in ("growing", "random"):
            for kind in INDEXES:
                found.setdefault((order, kind), []).append(_fill(url, orders, order, kind))
    sys.stdout.write(f"{'keys':<9}{'index':<7}{'CPU s':>8}{'WAL MiB':>9}{'MiB':>6}{'look-up ms':>12}\n")
    for (order, kind), each in found.items():
        cpu = min(one.cpu for one in each)
        lookup = statistics.median(one.lookup for one in each)
        size, wal = each[0].size / 2**20, each[0].wal / 2**20
        sys.stdout.write(f"{order:<9}{kind:<7}{cpu:>8.2f}{wal:>9.0f}{size:>6.0f}{lookup:>12.2f}\n")


def _fill(url: str, orders: int, order: str, kind: str) -> Filled:
    keys = list(range(orders))
    if order == "random":
        random.Random(1).shuffle(keys)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS raw.orders_raw")
        connection.execute(raw_table_ddl(load_datasets()["orders"]).encode())
        connection.execute("DROP INDEX raw.orders_raw_source_order_id_idx")
        if (ddl := INDEXES[kind]) is not None:
            connection.execute(ddl.encode())
        connection.execute("CHECKPOINT")
        began, wal = _cpu(connection), _wal(connection)
        for landing in _landings(keys):
            with connection.cursor().copy(f"COPY raw.orders_raw ({COLUMNS}) FROM STDIN".encode()) as copy:
                copy.write(landing)
        cpu, written = _cpu(connection) - began, _wal(connection) - wal
        connection.execute("VACUUM ANALYZE raw.orders_raw")
        size = connection.execute(
            "SELECT coalesce(pg_relation_size(to_regclass('raw.key_index')), 0)"
        ).fetchone()
        return Filled(cpu, written, (size or (0,))[0], _lookup(connection, keys))


def _landings(keys: Sequence[int]) -> Iterator[bytes]:
    rng = random.Random(2)
    for first in range(0, len(keys), A_LANDING):
        batch = uuid.UUID(int=rng.getrandbits(128))
        lines = []
        for position, key in enumerate(keys[first : first + A_LANDING]):
            payload = f'{{"order_id": "order-{key:09}", "customer_id": "customer-{key % 50_000:05}", "amount": "1.00"}}'
            lines.append(
                f"{rng.getrandbits(128):032x}\torder-{key:09}\tcustomer-{key % 50_000:05}\t1.00\t2026-01-05\t{batch}\t"
                f"urn:bench\t{payload}\t2026-01-05\torder.placed\t{first}-0\t{position}\n"
            )
        yield "".join(lines).encode()


def _lookup(connection: psycopg.Connection[tuple[object, ...]], keys: Sequence[int]) -> float:
    took = []
    for number in range(9):
        key = f"order-{keys[number * len(keys) // 9]:09}"
        began = time.perf_counter()
        connection.execute("SELECT * FROM raw.orders_raw WHERE source_order_id = %s", [key]).fetchall()
        took.append(1_000 * (time.perf_counter() - began))
    return statistics.median(took)


def _cpu(connection: psycopg.Connection[tuple[object, ...]]) -> float:
    fields = Path(f"/proc/{connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _wal(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchone()
    return int(str((row or (0,))[0]))


if __name__ == "__main__":
    sys.exit(main())
