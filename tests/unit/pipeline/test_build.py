"""A generation's file from landed rows: built in parts or at once, it holds the same."""

from __future__ import annotations

import itertools
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.adapters.warehouse import Warehouse
from libs.datasets import Column, ColumnType, Dataset, load_datasets
from libs.errors import Permanent, Transient
from libs.pipeline.build import Built, Recipe, build_generation, landed_select, staging_is_stale
from libs.pipeline.hashing import staging_hash

ORDERS = load_datasets()["orders"]
DAY = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Landed:
    """One landed version of an order; minute says when it happened."""

    order: str
    minute: int = 0
    amount: str = "42.50"
    source: str = "urn:shop"
    event: str = field(default_factory=lambda: f"e-{next(NUMBERS)}")
    note: str | None = None


def rows_of(batch: uuid.UUID, orders: Iterable[Landed], *extra: str) -> pa.Table:
    """As they come from RAW: numbers and ids as text."""
    listed = list(orders)
    columns: dict[str, Any] = {
        "source_order_id": pa.array([row.order for row in listed], pa.string()),
        "customer_id": pa.array(["c-1"] * len(listed), pa.string()),
        "amount": pa.array([row.amount for row in listed], pa.string()),
        "order_created_at": pa.array([DAY] * len(listed), pa.timestamp("us", tz="UTC")),
        "event_id": pa.array([row.event for row in listed], pa.string()),
        "source_system": pa.array([row.source for row in listed], pa.string()),
        "event_time": pa.array(
            [DAY + timedelta(minutes=row.minute) for row in listed], pa.timestamp("us", tz="UTC")
        ),
        "batch_id": pa.array([str(batch)] * len(listed), pa.string()),
    }
    if "note" in extra:
        columns["note"] = pa.array([row.note for row in listed], pa.string())
    return pa.table(columns)


class Shop:
    """A warehouse that generations are built in, one after the other."""

    def __init__(self, folder: Path, dataset: Dataset = ORDERS) -> None:
        self.warehouse = Warehouse(folder, dataset.name)
        self.dataset = dataset
        self.batches: dict[uuid.UUID, pa.Table] = {}
        self.file: str | None = None
        self.generation = 0

    def land(self, *orders: Landed) -> uuid.UUID:
        batch = uuid.uuid4()
        extra = [column.name for column in self.dataset.columns if column.name == "note"]
        self.batches[batch] = rows_of(batch, orders, *extra)
        return batch

    def build(self, *batches: uuid.UUID, full: bool = False) -> Built:
        self.generation += 1
        parent = None if full or self.file is None else self.file
        file = Warehouse.file_name(self.generation)
        built = build_generation(
            self.warehouse,
            Recipe(
                dataset=self.dataset,
                generation=self.generation,
                parent=None if parent is None else self.generation - 1,
                kind="full" if parent is None else "incremental",
                batches=batches,
            ),
            [self.batches[batch] for batch in batches],
            file=file,
            clone_of=parent,
        )
        self.file = file
        return built

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        assert self.file is not None
        with self.warehouse.connect_read_only(self.warehouse.path_of(self.file)) as generation:
            return generation.rows(sql)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_orders_become_staging_rows_and_a_day_of_the_mart(shop: Shop) -> None:
    built = shop.build(shop.land(Landed("a", amount="10.00"), Landed("b", minute=5, amount="0.05")))
    assert (built.staged, built.rejected, built.superseded, built.raw_rows) == (2, 0, 0, 2)
    assert built.watermark == DAY + timedelta(minutes=5)
    day = shop.rows(
        "SELECT total_orders, total_amount::VARCHAR, last_refreshed_at FROM analytics.daily_order_metrics"
    )
    assert [row[:2] for row in day] == [(2, "10.05")]
    assert day[0][2] == built.watermark


def test_the_newest_version_of_an_order_stands_whatever_order_they_come_in(shop: Shop) -> None:
    shop.build(shop.land(Landed("a", 1, "1.00"), Landed("a", 3, "3.00"), Landed("a", 2, "2.00")))
    built = shop.build(shop.land(Landed("a", 2, "2.50")))
    assert (built.staged, built.superseded, built.raw_rows) == (1, 3, 4)
    assert shop.rows("SELECT amount::VARCHAR FROM staging.orders") == [("3.00",)]


def test_of_versions_of_the_same_time_the_greater_source_then_event_wins(shop: Shop) -> None:
    shop.build(shop.land(Landed("a", source="s1", event="z"), Landed("b", event="1")))
    shop.build(shop.land(Landed("a", source="s2", event="a"), Landed("b", event="0")))
    rows = shop.rows("SELECT source_order_id, source_system, event_id FROM staging.orders ORDER BY 1")
    assert rows == [("a", "s2", "a"), ("b", "urn:shop", "1")]


def test_a_row_that_breaks_a_rule_is_rejected_with_the_rules_name(shop: Shop) -> None:
    built = shop.build(shop.land(Landed("a", amount="-1.00"), Landed("b", amount="0.00")))
    assert (built.staged, built.rejected) == (1, 1)
    rows = shop.rows("SELECT source_order_id, amount::VARCHAR, rule, rules FROM staging.orders_rejected")
    assert rows == [("a", "-1.00", "amount_not_negative", ["amount_not_negative"])]
    assert shop.rows("SELECT sum(total_orders) FROM analytics.daily_order_metrics") == [(1,)]


def test_a_correction_takes_the_place_of_a_rejected_version_and_the_other_way_round(shop: Shop) -> None:
    shop.build(shop.land(Landed("a", 1, "-1.00"), Landed("b", 1, "5.00")))
    built = shop.build(shop.land(Landed("a", 2, "1.00"), Landed("b", 2, "-5.00")))
    assert (built.staged, built.rejected, built.superseded) == (1, 1, 2)
    assert shop.rows("SELECT source_order_id FROM staging.orders") == [("a",)]
    assert shop.rows("SELECT source_order_id FROM staging.orders_rejected") == [("b",)]


def test_a_late_older_version_of_a_rejected_order_changes_nothing(shop: Shop) -> None:
    shop.build(shop.land(Landed("a", 2, "-1.00")))
    built = shop.build(shop.land(Landed("a", 1, "1.00")))
    assert (built.staged, built.rejected, built.superseded) == (0, 1, 1)


def test_the_file_says_which_batches_it_carries(shop: Shop) -> None:
    first, second = shop.land(Landed("a"), Landed("b")), shop.land(Landed("c"))
    shop.build(first)
    shop.build(second)
    rows = shop.rows("SELECT batch_id, raw_rows, generation FROM meta.batches ORDER BY generation")
    assert rows == [(first, 2, 1), (second, 1, 2)]
    assert dict(shop.rows("SELECT name, value FROM meta.counts")) == {
        "staged": 3,
        "rejected": 0,
        "superseded": 0,
        "raw_rows": 3,
    }
    assert shop.rows("SELECT generation, parent, kind, dataset, contract_version FROM meta.build") == [
        (2, 1, "incremental", "orders", ORDERS.version)
    ]


def test_a_batch_without_rows_is_carried_too(shop: Shop) -> None:
    empty = shop.land()
    shop.build(shop.land(Landed("a")), empty)
    assert (empty, 0, 1) in shop.rows("SELECT batch_id, raw_rows, generation FROM meta.batches")


def test_a_batch_is_not_applied_twice(shop: Shop) -> None:
    batch = shop.land(Landed("a"))
    shop.build(batch)
    with pytest.raises(Permanent, match="already carries"):
        shop.build(batch)


def test_rows_of_a_batch_that_the_plan_leaves_out_are_refused(shop: Shop) -> None:
    planned, foreign = shop.land(Landed("a")), shop.land(Landed("b"))
    shop.batches[planned] = pa.concat_tables([shop.batches[planned], shop.batches[foreign]])
    with pytest.raises(Permanent, match=str(foreign)):
        shop.build(planned)


def test_the_sealed_file_is_whole_and_read_only(shop: Shop) -> None:
    built = shop.build(shop.land(Landed("a")))
    assert shop.file is not None
    path = shop.warehouse.path_of(shop.file)
    assert {entry.name for entry in shop.warehouse.folder.iterdir()} == {path.name}
    assert path.stat().st_mode & 0o222 == 0
    assert path.stat().st_size == built.bytes


def test_the_parent_is_not_touched_by_its_child(shop: Shop) -> None:
    shop.build(shop.land(Landed("a")))
    assert shop.file is not None
    before = shop.warehouse.path_of(shop.file).read_bytes()
    shop.build(shop.land(Landed("b")))
    assert shop.warehouse.path_of(Warehouse.file_name(1)).read_bytes() == before


def with_note(dataset: Dataset) -> Dataset:
    note = Column(field="note", name="note", type=ColumnType.STRING, required=False)
    return replace(dataset, columns=(*dataset.columns, note))


def test_a_new_optional_column_appears_in_the_clone(shop: Shop) -> None:
    old = shop.land(Landed("a"), Landed("b", amount="-1.00"))
    shop.build(old)
    shop.dataset = with_note(ORDERS)
    new = shop.land(Landed("c", note="hello"))
    built = shop.build(new)
    assert shop.rows("SELECT source_order_id, note FROM staging.orders ORDER BY 1") == [
        ("a", None),
        ("c", "hello"),
    ]
    assert shop.rows("SELECT note FROM staging.orders_rejected") == [(None,)]

    shop.batches[old] = shop.batches[old].append_column("note", pa.array([None, None], pa.string()))
    anew = shop.build(old, new, full=True)
    assert (anew.staging_hash, anew.analytics_hash) == (built.staging_hash, built.analytics_hash)


def test_a_mart_that_is_gone_from_the_dataset_leaves_the_file(shop: Shop) -> None:
    shop.dataset = replace(ORDERS, marts={**ORDERS.marts, "extra": "SELECT 1 AS one;"})
    shop.build(shop.land(Landed("a")))
    assert shop.rows("SELECT one FROM analytics.extra") == [(1,)]
    shop.dataset = ORDERS
    shop.build(shop.land(Landed("b")))
    tables = shop.rows("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'analytics'")
    assert tables == [("daily_order_metrics",)]


def test_a_mart_that_fails_is_named_and_leaves_no_file(shop: Shop) -> None:
    shop.dataset = replace(ORDERS, marts={"bad": "SELECT nope FROM staging.orders"})
    with pytest.raises(Permanent, match="mart bad of orders failed") as caught:
        shop.build(shop.land(Landed("a")))
    assert "nope" in str(caught.value.why)
    assert list(shop.warehouse.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("staging", "complaint"),
    [
        ("SELECT landed.* FROM landed WHERE amount > 50", "one row per landed event"),
        ("SELECT landed.* FROM landed, range(2)", "one row per landed event"),
        ("SELECT landed.* EXCLUDE (amount) FROM landed", "leaves out amount"),
        ("SELECT landed.* REPLACE (amount * 0.5 AS amount) FROM landed", "leaves out amount"),
    ],
)
def test_staging_sql_that_loses_something_is_refused(shop: Shop, staging: str, complaint: str) -> None:
    shop.dataset = replace(ORDERS, staging_sql=staging)
    with pytest.raises(Permanent, match=complaint):
        shop.build(shop.land(Landed("a")))


def test_a_build_that_is_stopped_leaves_no_file(shop: Shop) -> None:
    batch = shop.land(Landed("a"))
    recipe = Recipe(dataset=ORDERS, generation=1, parent=None, kind="full", batches=[batch])
    looks = iter([False] * 6)
    with pytest.raises(Transient, match="stopped"):
        build_generation(
            shop.warehouse,
            recipe,
            [shop.batches[batch]],
            file="gen-000001-1.duckdb",
            stopped=lambda: next(looks, True),
        )
    assert list(shop.warehouse.folder.iterdir()) == []


def test_what_reading_raises_comes_out_as_it_is(shop: Shop) -> None:
    def lost() -> Iterator[pa.Table]:
        yield rows_of(uuid.uuid4(), [Landed("a")])
        raise Transient("the connection is gone")

    recipe = Recipe(dataset=ORDERS, generation=1, parent=None, kind="full", batches=None)
    with pytest.raises(Transient, match="the connection is gone"):
        build_generation(shop.warehouse, recipe, lost(), file="gen-000001-1.duckdb")
    assert list(shop.warehouse.folder.iterdir()) == []


def test_a_missing_parent_is_told(shop: Shop) -> None:
    shop.file = "gen-000009-1.duckdb"
    with pytest.raises(Permanent, match=r"gen-000009-1\.duckdb is missing"):
        shop.build(shop.land(Landed("a")))


def test_other_row_rules_make_the_staging_of_a_file_stale(shop: Shop) -> None:
    shop.build(shop.land(Landed("a")))
    assert shop.file is not None
    assert not staging_is_stale(shop.warehouse, shop.file, ORDERS)
    assert not staging_is_stale(shop.warehouse, shop.file, with_note(ORDERS))
    assert staging_is_stale(shop.warehouse, shop.file, replace(ORDERS, row_rules=()))


def test_numbers_and_ids_are_read_from_raw_as_text() -> None:
    sql = landed_select(ORDERS, "batch_id IS NOT NULL")
    assert sql.endswith("FROM raw.orders_raw WHERE batch_id IS NOT NULL")
    assert '"amount"::text AS "amount"' in sql
    assert '"batch_id"::text AS "batch_id"' in sql


AMOUNTS = st.sampled_from(["1.00", "2.50", "-1.00", "0.00"])
VERSIONS = st.builds(
    Landed,
    order=st.sampled_from(["a", "b", "c"]),
    minute=st.integers(0, 3),
    amount=AMOUNTS,
    source=st.sampled_from(["s1", "s2"]),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Sequence[Sequence[Landed]], Sequence[int]]:
    """Batches of versions, and the places where one build ends and the next begins."""
    batches = draw(st.lists(st.lists(VERSIONS, min_size=1, max_size=5), min_size=1, max_size=4))
    cuts = draw(st.sets(st.integers(1, len(batches)), max_size=3))
    return batches, sorted({*cuts, len(batches)})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), seed=st.randoms(use_true_random=False))
def test_applied_in_any_order_and_in_any_parts_batches_give_what_a_full_build_gives(
    history: tuple[Sequence[Sequence[Landed]], Sequence[int]], seed: Any
) -> None:
    batches, cuts = history
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder))
        landed = [shop.land(*orders) for orders in batches]
        anew = shop.build(*landed, full=True)
        whole = contents(shop)

        seed.shuffle(landed)
        shop.file = None
        done = 0
        for cut in cuts:
            last = shop.build(*landed[done:cut])
            done = cut
        assert contents(shop) == whole
        assert comparable(last) == comparable(anew)
        assert last.staged + last.rejected + last.superseded == sum(map(len, batches)) == last.raw_rows
        with shop.warehouse.connect_read_only(shop.warehouse.path_of(str(shop.file))) as generation:
            assert staging_hash(generation, ORDERS) == last.staging_hash


def comparable(built: Built) -> Mapping[str, object]:
    names = ("staged", "rejected", "superseded", "raw_rows", "staging_hash", "analytics_hash", "watermark")
    return {name: getattr(built, name) for name in names}


def contents(shop: Shop) -> list[list[tuple[Any, ...]]]:
    queries = (
        "SELECT * EXCLUDE (batch_id) FROM staging.orders ORDER BY ALL",
        "SELECT * EXCLUDE (batch_id) FROM staging.orders_rejected ORDER BY ALL",
        "SELECT * FROM analytics.daily_order_metrics ORDER BY ALL",
    )
    return [shop.rows(query) for query in queries]
