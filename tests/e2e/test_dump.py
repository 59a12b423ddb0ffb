"""What docs/backup.md says of a dump: into a Postgres of one's own, and what came after it out of the archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from libs.runtime.embedded.postgres import PostgresServer
from libs.runtime.processes import free_port
from libs.testing.platform import RunningPlatform
from tests.e2e.documents import blocks_of, shell_environment, typed

pytestmark = pytest.mark.heavy

BLOCKS: Final = blocks_of("docs/backup.md")
_, DUMP = (block for block in BLOCKS if block.heading == "Backup")
(RESTORE,) = (block for block in BLOCKS if block.heading == "From a dump")
COLUMNS: Final = "order_id,customer_id,amount,created_at\n"
ORDERS: Final = "A-1,C-1,10.50,2026-01-05T09:30:00Z\nA-2,C-2,ten,2026-01-05T09:31:00Z\n"
HELD: Final = "B-1,C-3,5.00,2026-01-06T00:00:00Z\n"
LATER: Final = (
    "C-1,C-3,7.00,2026-01-07T00:00:00Z\n",
    "A-1,C-1,11.50,2026-01-05T09:30:01Z\n",
    "D-1,C-3,1.00,2026-01-08T00:00:00Z\n",
)
"""Each in a generation of its own, more of them than the restore builds: numbers that are not to be used again."""
SEEN: Final = """
SELECT order_date::VARCHAR AS day, total_orders, total_amount::VARCHAR AS total
FROM analytics.daily_order_metrics ORDER BY order_date
"""
RAW: Final = """
-- one row per event in RAW
SELECT source_system, event_id, source_order_id, amount::text FROM raw.orders_raw ORDER BY source_system, event_id
"""
QUARANTINE: Final = "SELECT id, reason, state, batch_id FROM raw.quarantine"


class Restored:
    """The platform after it, and what there was before."""

    def __init__(self, platform: RunningPlatform, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        self.seen: list[dict[str, Any]] = []
        self.raw: list[dict[str, Any]] = []
        self.quarantine: list[dict[str, Any]] = []
        self.held = ""

    def publishes(self, rows: str) -> None:
        file = self.folder / f"{rows[:3]}{len(rows)}.csv"
        file.write_text(COLUMNS + rows)
        self.platform.drp("publish", "--file", str(file))
        self.platform.settle()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The operator's own: it goes on while the platform is stopped."""
    server = PostgresServer(tmp_path_factory.mktemp("own"), free_port(), fsync=False)
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def restored(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    """Dumped with an event in quarantine and a batch on hold; published to, then half of it dropped by mistake."""
    folder = tmp_path_factory.mktemp("operator")
    platform = RunningPlatform(folder / ".drp", {"DRP_POSTGRES_URL": postgres.url})
    made = Restored(platform, folder)
    platform.start()
    try:
        made.publishes(ORDERS)
        made.publishes(HELD)
        made.held = platform.json("batches", "ls")[0]["id"]
        platform.drp("batches", "hold", made.held, "--reason", "a test", "--yes")
        platform.settle()
        typed(DUMP, environment=shell_environment(platform.environment), folder=folder)
        for rows in LATER:
            made.publishes(rows)
        made.seen, made.raw = platform.ask(SEEN), platform.rows(RAW)
        made.quarantine = platform.rows(QUARANTINE)
        platform.rows("DROP SCHEMA raw CASCADE")
        typed(RESTORE, environment=shell_environment(platform.environment), folder=folder)
        yield made
    finally:
        platform.stop()


def test_what_readers_saw_they_see_again(restored: Restored) -> None:
    assert restored.platform.ask(SEEN) == restored.seen
    totals = {row["day"]: row["total"] for row in restored.seen}
    assert totals == {"2026-01-05": "11.50", "2026-01-07": "7.00", "2026-01-08": "1.00"}


def test_all_that_landed_is_there_once_and_what_came_after_the_dump_too(restored: Restored) -> None:
    assert restored.platform.rows(RAW) == restored.raw
    assert len(restored.raw) == 5


def test_quarantine_and_holds_are_back(restored: Restored) -> None:
    assert restored.platform.rows(QUARANTINE) == restored.quarantine
    assert [row["reason"] for row in restored.quarantine] == ["wrong_type"]
    (held,) = restored.platform.json("batches", "ls", "--status", "held")
    assert held["id"] == restored.held


def test_the_archive_is_whole_and_rebuilds_what_readers_see(restored: Restored) -> None:
    report = restored.platform.json("archive", "verify")
    assert (report["problems"], report["unarchived"], report["events"]) == ([], 0, 5)
    assert restored.platform.json("replay", "--verify")["identical"] is True


def test_the_ledger_names_the_entries_that_only_the_archive_knows(restored: Restored) -> None:
    ledger = restored.platform.ledger()
    assert (ledger.unaccounted, len(ledger.problems)) == (len(LATER), 1)
    assert (ledger.accepted, ledger.quarantined, ledger.held) == (5, 1, 1)
