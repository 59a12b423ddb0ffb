"""The demo: the promise, told on a real platform with real and faulty orders, and measured on the way."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx

from libs.adapters.warehouse import Warehouse, query
from libs.operations import reading
from libs.operations.archive import verify_archive
from libs.operations.batches import hold
from libs.operations.ledger import verify_ledger
from libs.operations.publish import publish_file
from libs.operations.replay import replay
from libs.operations.settled import wait_until_settled
from libs.runtime.supervisor import status
from services.cli.demo.report import REAL_ORDERS, Report
from services.cli.settings import Operator

__all__ = ["Story"]

GENERATED: Final = 10_000
RUNS: Final = 10
SHARES: Final = {
    "duplicate": 0.02,
    "conflict": 0.005,
    "late": 0.01,
    "out_of_order": 0.01,
    "malformed": 0.01,
    "negative": 0.005,
}
PLANTED: Final = 200
PLANTED_BAD: Final = 120
SETTLE_WITHIN: Final = 90.0

_FIGURES: Final = """
SELECT count(*) AS days, sum(total_orders) AS orders, sum(total_amount) AS total
FROM analytics.daily_order_metrics WHERE order_date < DATE '2000-01-01'
"""
_FIRST_DAY: Final = """
SELECT total_orders, total_amount FROM analytics.daily_order_metrics WHERE order_date = DATE '1997-01-01'
"""
_MART: Final = "SELECT * FROM analytics.daily_order_metrics ORDER BY order_date"

Tell = Callable[[str], None]


class Story:
    """Each chapter is a method; they are told in their order, against a platform that runs in `home`."""

    def __init__(self, platform: Operator, report: Report, *, home: Path, orders: Path, tell: Tell) -> None:
        self._platform = platform
        self._report = report
        self._home = home
        self._orders = orders
        self._tell = tell

    async def tell(self) -> None:
        await self.publish_real_orders()
        await self.publish_generated_orders_while_the_ingestor_is_killed()
        await self.plant_a_batch_that_the_gate_blocks()
        await self.hold_it_and_publish_corrections()
        await self.replay_everything()
        await self.verify()

    async def publish_real_orders(self) -> None:
        """A shop's orders of 1997 and 1998, to the cent."""
        dataset = self._platform.dataset("orders")
        published = await publish_file(await self._platform.bus(), dataset, self._orders)
        rate = published.events / published.seconds
        self._report.publish_rate = round(rate)
        self._tell(
            f"published {published.events:,} real orders from {self._orders.name} ({rate:,.0f} a second)"
        )
        began = time.monotonic()
        await self._settle()
        self._tell(f"landed, gated, published and archived after another {time.monotonic() - began:.1f} s")
        self._expect_real_figures("the mart has the file's figures, to the cent")

    async def publish_generated_orders_while_the_ingestor_is_killed(self) -> None:
        """Known faults in known numbers; the ingestor dies in the middle of them."""
        made: Counter[str] = Counter()
        victim = self._part("ingestor").pid
        for seed in range(1, RUNS + 1):
            if (
                seed == RUNS // 2
            ):  # entries of the runs before are in its hands, the others come while it is dead
                os.kill(victim, signal.SIGKILL)
            run = {"count": GENERATED // RUNS, "faults": SHARES, "seed": seed}
            made.update((await self._post("/v1/runs", run))["made"])
        faults = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in sorted(made.items()))
        self._tell(
            f"generated {GENERATED:,} events ({faults}) and killed the ingestor in the middle (kill -9)"
        )
        await self._settle()
        self._report.ingestor_restarts = self._part("ingestor").restarts
        row = await self._ledger()
        self._expect(
            "every generated fault is where it belongs: duplicates", made["duplicate"], row["duplicate"]
        )
        self._expect(
            "… and quarantined: malformed events and conflicts",
            made["malformed"] + made["conflict"],
            row["quarantined"],
        )
        self._expect("… conflicts are among them", made["conflict"], row["conflicts"])
        accepted = REAL_ORDERS.orders + GENERATED - made["duplicate"] - made["malformed"] - made["conflict"]
        self._expect("everything else was accepted, nothing twice", accepted, row["accepted"])
        self._expect("the supervisor started the ingestor again", True, self._report.ingestor_restarts > 0)
        rejected = self._ask("SELECT count(*) AS n FROM staging.orders_rejected")[0]["n"]
        self._expect("negative amounts are rejected within the tolerance", made["negative"], rejected)

    async def plant_a_batch_that_the_gate_blocks(self) -> None:
        """Too many negative amounts: the candidate is not published, readers keep what they see."""
        before = self._ask(_MART)
        seen = await self._current()
        orders = [_planted(number, bad=number < PLANTED_BAD) for number in range(PLANTED)]
        await self._post("/v1/orders", orders)
        left = await self._settle()
        self._expect("the gate blocks the planted batch", 1, left)
        self._expect("readers still see the last good generation", seen, await self._current())
        self._expect("… and in it what they saw before", True, before == self._ask(_MART))
        blocked = (await reading.batches(await self._platform.postgres(), status="blocked"))[0]
        detail = await reading.batch(await self._platform.postgres(), blocked["id"])
        rules = ", ".join(str(rule["rule"]) for rule in detail["broken_rules"])
        self._tell(
            f"planted {PLANTED} orders, {PLANTED_BAD} of them negative: generation {blocked['last_generation']} is"
            f" blocked by {rules}; readers still see generation {seen}"
        )

    async def hold_it_and_publish_corrections(self) -> None:
        """The blocked batch is left out; corrections are simply published as later events."""
        postgres = await self._platform.postgres()
        blocked = (await reading.batches(postgres, status="blocked"))[0]
        async with postgres.transaction() as connection:
            await hold(connection, blocked["id"], reason="negative amounts", actor="demo")
        await self._post("/v1/orders", [_planted(number, bad=False) for number in range(PLANTED_BAD)])
        left = await self._settle()
        self._expect("nothing is blocked any more", 0, left)
        corrected = self._ask("SELECT count(*) AS n FROM staging.orders WHERE source_order_id LIKE 'DEMO-%'")
        self._expect("the corrections are published", PLANTED_BAD, corrected[0]["n"])
        self._tell(
            f"held that batch and published {PLANTED_BAD} corrections: generation {await self._current()}"
        )

    async def replay_everything(self) -> None:
        """Every archived event again, through the same path: each is recognised."""
        before, mart = await self._ledger(), self._ask(_MART)
        done = await replay(
            await self._platform.postgres(),
            await self._platform.bus(),
            self._platform.datasets,
            objects=await self._platform.objects(),
            source="archive",
        )
        self._report.replayed = done.events
        await self._settle()
        after = await self._ledger()
        self._expect("a replay of everything adds no row", before["accepted"], after["accepted"])
        self._expect("… each event is a duplicate", before["duplicate"] + done.events, after["duplicate"])
        self._expect("… and the mart stays as it was", True, mart == self._ask(_MART))
        self._tell(f"replayed all {done.events:,} archived events: no row added, every one a duplicate")

    async def verify(self) -> None:
        """Count again, hash again, rebuild from the archive alone."""
        from libs.operations.verify import verify_replay

        postgres, bus, datasets = (
            await self._platform.postgres(),
            await self._platform.bus(),
            self._platform.datasets,
        )
        report = self._report
        (ledger,) = [one for one in await verify_ledger(postgres, bus, datasets) if one.dataset == "orders"]
        row = await self._ledger()
        for name in ("published", "accepted", "duplicate", "quarantined", "dead_lettered", "unaccounted"):
            setattr(report, name, getattr(ledger, name))
        report.conflicts, report.held = row["conflicts"], row["held"]
        report.rejected = self._ask("SELECT count(*) AS n FROM staging.orders_rejected")[0]["n"]
        sent = REAL_ORDERS.orders + GENERATED + PLANTED + PLANTED_BAD + report.replayed
        self._expect("published is what producers sent", sent, report.published)
        self._expect("nothing is unaccounted", 0, report.unaccounted)
        self._expect("the ledger has no problem", [], ledger.problems)
        archived = await verify_archive(postgres, await self._platform.objects())
        report.archive_objects, report.archive_verified = archived.objects, not archived.problems
        self._expect("the archive holds what it should, byte for byte", [], archived.problems)
        rebuilt = await verify_replay(
            self._platform.settings, datasets["orders"], postgres, await self._platform.objects()
        )
        report.replay_identical = rebuilt.identical
        self._expect("a rebuild from the archive alone has the same hashes", True, rebuilt.identical)
        generations = await reading.generations(postgres, dataset="orders", limit=10_000)
        report.generations_published = sum(1 for one in generations if one["published_at"] is not None)
        report.generations_blocked = sum(1 for one in generations if one["verdict"] == "fail")
        self._expect("the gate blocked the planted batch, and nothing else", 1, report.generations_blocked)
        self._expect_real_figures("and the real orders still have their figures, to the cent")
        self._tell(
            f"verified: {report.published:,} published = {report.accepted:,} accepted + {report.duplicate:,} duplicate"
            f" + {report.quarantined:,} quarantined + {report.dead_lettered:,} dead-lettered; unaccounted:"
            f" {report.unaccounted}"
        )

    def _expect(self, name: str, expected: object, found: object) -> None:
        if not self._report.expect(name, expected, found):
            self._tell(f"DOES NOT HOLD: {name}: expected {_short(expected)}, found {_short(found)}")

    def _expect_real_figures(self, name: str) -> None:
        found = self._ask(_FIGURES)[0]
        first = self._ask(_FIRST_DAY)[0]
        expected = (
            REAL_ORDERS.days,
            REAL_ORDERS.orders,
            REAL_ORDERS.total,
            REAL_ORDERS.first_day_orders,
            REAL_ORDERS.first_day_total,
        )
        figures = (
            found["days"],
            int(found["orders"]),
            Decimal(found["total"]),
            first["total_orders"],
            Decimal(first["total_amount"]),
        )
        self._expect(name, expected, figures)

    async def _settle(self) -> int:
        """Wait until nothing is on its way; how many batches are blocked."""
        left = await wait_until_settled(
            await self._platform.postgres(),
            await self._platform.bus(),
            self._platform.datasets,
            timeout=SETTLE_WITHIN,
            warehouses=self._home / "warehouse",
        )
        return left.blocked

    async def _ledger(self) -> Mapping[str, Any]:
        rows = await reading.ledger(await self._platform.postgres())
        return next(row for row in rows if row["dataset"] == "orders")

    async def _current(self) -> object:
        rows = await reading.generations(await self._platform.postgres(), dataset="orders", limit=100)
        return next((row["number"] for row in rows if row["current"]), None)

    def _ask(self, sql: str) -> list[dict[str, Any]]:
        warehouse = Warehouse(self._home / "warehouse", "orders")
        current = warehouse.current()
        if current is None:
            return [{}]
        answer: list[dict[str, Any]] = query(current, sql).to_pylist()
        return answer

    def _part(self, name: str) -> Any:
        return next(part for part in status(self._home).parts if part.name == name)

    async def _post(self, path: str, document: object) -> dict[str, Any]:
        url = self._part("generator").url
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.post(f"{url}{path}", json=document)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body


def _planted(number: int, *, bad: bool) -> dict[str, str]:
    return {
        "order_id": f"DEMO-{number:04d}",
        "customer_id": f"C-{number % 40:05d}",
        "amount": f"{'-' if bad else ''}{10 + number % 90}.50",
        "created_at": "2026-01-15T12:00:00Z",
    }


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:200]}…"
