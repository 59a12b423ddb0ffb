"""What docs/read.md tells readers to type works as it stands there, while generations change under it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
import pytest

from libs.testing.builders import a_batch_of, an_order_placed, encoded
from libs.testing.platform import RunningPlatform, Stores
from libs.testing.waiting import until
from tests.e2e.conftest import Start
from tests.e2e.documents import Block, blocks_of, ran, shell_environment

pytestmark = pytest.mark.heavy

BLOCKS: Final = blocks_of("docs/read.md")
SETTING_UP: Final = [block for block in BLOCKS if block.text.startswith(("export", "eval"))]
READING: Final = {
    f"{block.heading} {number}": block for number, block in enumerate(BLOCKS) if block not in SETTING_UP
}
FIGURES: Final = re.compile(r"^(\d+)[ ,](\d+\.\d\d)[ ,](\d+(?:\.\d\d)?)$", re.M)
"""A generation, what its mart adds up to, and what its staging does; or the mart's rows, of a Parquet."""

QUERY: Final = """
SELECT (SELECT generation FROM meta.build) AS generation,
       (SELECT sum(total_amount) FROM analytics.daily_order_metrics)::VARCHAR AS mart,
       (SELECT sum(amount) FROM staging.orders)::VARCHAR AS staging
"""
AT_LEAST: Final = 5
PATIENCE: Final = 120
EACH: Final = 100


class Changing:
    """A platform that somebody publishes to all the time. seen: what readers saw, by generation."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.platform = platform
        self.environment = shell_environment(platform.environment)
        self.published = Decimal(0)
        self.seen: dict[int, Decimal] = {}
        self._stopping = threading.Event()
        self._publishing = ThreadPoolExecutor(1)
        self._work = self._publishing.submit(platform.with_stores, self._publish)

    def saw(self, generation: int, mart: Decimal, staging: Decimal | None = None) -> None:
        """A whole state: the mart is staging's, and everybody sees the same in the same generation."""
        assert staging in (None, mart), f"half a state: generation {generation}, {mart} is not {staging}"
        assert self.seen.setdefault(generation, mart) == mart
        totals = [self.seen[number] for number in sorted(self.seen)]
        assert totals == sorted(totals), "a later generation has less than an earlier one"

    async def _publish(self, stores: Stores) -> None:
        while not self._stopping.is_set():
            orders = [*a_batch_of(EACH, amount="1.10"), an_order_placed(amount="-1.00")]
            await stores.bus.publish_events("orders", [encoded(order) for order in orders])
            self.published += EACH * Decimal("1.10")
            await asyncio.sleep(0.5)

    @staticmethod
    async def archived(stores: Stores) -> None:
        """A snapshot is in the store; so something is published, too."""
        asked = "SELECT EXISTS (SELECT FROM ops.archive_objects WHERE kind = 'snapshot')"
        await until(lambda: stores.postgres.fetchval(asked), within=PATIENCE)

    def stop(self) -> None:
        """Nothing is published any more. Fails if publishing did."""
        self._stopping.set()
        self._work.result(timeout=PATIENCE)
        self._publishing.shutdown()


@pytest.fixture(scope="module")
def changing(start: Start) -> Iterator[Changing]:
    """Generations follow each other as fast as they are built, and old ones go soon."""
    platform = start(DRP_BATCH_MAX_AGE="0.5", DRP_KEEP_GENERATIONS="1")
    changing = Changing(platform)
    try:
        platform.with_stores(changing.archived)
        told = subprocess.run(
            ["bash", "-euc", "\n".join([*(block.text for block in SETTING_UP), "env -0"])],
            env=changing.environment,
            capture_output=True,
            check=True,
        )
        changing.environment = dict(
            pair.split("=", 1) for pair in told.stdout.decode().split("\0") if "=" in pair
        )
        yield changing
    finally:
        changing.stop()


def read_by(changing: Changing, block: Block, folder: Path) -> str:
    """What a block says; SQL is typed in the warehouse's own folder."""
    if block.kind == "sql":
        folder = changing.platform.home / "warehouse" / "orders"
    return ran(block, environment=changing.environment, folder=folder)


@pytest.mark.parametrize("block", READING.values(), ids=READING)
def test_a_block_of_the_document_reads_a_whole_state(
    changing: Changing, block: Block, tmp_path: Path
) -> None:
    said = FIGURES.findall(read_by(changing, block, tmp_path))

    assert len(said) == (5 if "while shown" in block.text else 1)
    for generation, mart, staging in said:
        changing.saw(int(generation), Decimal(mart), Decimal(staging) if "." in staging else None)


def test_whoever_asks_again_and_again_sees_whole_states_in_their_order(changing: Changing) -> None:
    numbers = [0]
    while len(set(numbers)) <= AT_LEAST:
        (row,) = changing.platform.ask(QUERY)
        changing.saw(row["generation"], Decimal(row["mart"]), Decimal(row["staging"]))
        numbers.append(row["generation"])
    assert numbers == sorted(numbers)


def test_what_is_open_stays_as_it_is_though_its_file_is_removed(changing: Changing) -> None:
    with duckdb.connect(changing.environment["CURRENT"], read_only=True) as warehouse:
        before = warehouse.execute(QUERY).fetchone()
        assert before is not None
        (file,) = warehouse.execute("SELECT path FROM duckdb_databases() WHERE NOT internal").fetchall()[0]
        asyncio.run(until(lambda: not Path(file).exists(), within=PATIENCE))

        assert warehouse.execute(QUERY).fetchone() == before
    (now,) = changing.platform.ask(QUERY)
    assert now["generation"] > before[0]


def test_in_the_end_every_reader_sees_all_that_was_published(changing: Changing, tmp_path: Path) -> None:
    changing.stop()
    changing.platform.settle()

    for block in READING.values():
        if "while shown" not in block.text:
            ((_, mart, staging),) = FIGURES.findall(read_by(changing, block, tmp_path))
            assert Decimal(mart) == changing.published
            assert "." not in staging or Decimal(staging) == changing.published
    assert len(changing.seen) > AT_LEAST


def test_the_rules_say_what_is_so(changing: Changing) -> None:
    """What readers are told of the files: which are kept, who may enter, what an order that breaks a rule becomes."""
    home = changing.platform.home
    rejected = changing.platform.ask("SELECT DISTINCT rule, rules FROM staging.orders_rejected")
    assert rejected == [{"rule": "amount_not_negative", "rules": ["amount_not_negative"]}]
    assert home.stat().st_mode & 0o077 == 0
    assert Path(changing.environment["CURRENT"]).is_symlink()
    asyncio.run(until(lambda: len(list((home / "warehouse/orders").glob("gen-*.duckdb"))) <= 2))
