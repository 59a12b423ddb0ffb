"""/data: what readers see, and what may be asked of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from libs.datasets import load_datasets
from services.console.looks import questions
from services.console.looks.data import AT_ONCE
from tests.integration.archiver.works import Works, an_event
from tests.integration.console.conftest import Console
from tests.integration.operations.archived.test_other_dataset import DATASETS

Opened = Callable[..., Console]
DAYS = AT_ONCE + 5
MART = "/data/orders/daily_order_metrics"


@pytest.fixture
async def published(works: Works) -> Works:
    """An order on each of some days, of as many euros as the day has in its place."""
    moments = [datetime(2026, 1 + number // 28, 1 + number % 28, tzinfo=UTC) for number in range(DAYS)]
    await works.land(
        *[
            an_event(f"o-{n}", amount=f"{n + 1}.25", created_at=moment.isoformat())
            for n, moment in enumerate(moments)
        ]
    )
    await works.publish()
    return works


async def test_where_nothing_is_published_the_page_says_how_to_begin(console: Opened) -> None:
    said = await console().text("/data")
    assert "Nothing is published yet" in said
    assert "can't be asked" not in said
    assert (await console().json("/api/data"))["mart"] is None


@pytest.mark.usefixtures("published")
async def test_where_nothing_of_another_dataset_is_published_its_own_command_is_shown(
    console: Opened,
) -> None:
    seen = console()
    seen.room.doors.datasets = {**seen.room.doors.datasets, **load_datasets(DATASETS)}
    for page in ("/data?dataset=payments", "/data?dataset=payments&sql=SELECT+1"):
        said = await seen.text(page)
        assert "Nothing of payments is published yet" in said
        assert "drp publish --dataset payments --file FILE" in said
        assert "can't be asked" not in said


@pytest.mark.usefixtures("published")
async def test_the_mart_is_shown_with_its_generation(console: Opened) -> None:
    seen = console()
    told, said = await seen.json("/api/data"), await seen.text("/data")
    assert told["mart"]["total"] == DAYS
    assert told["mart"]["generation"] == told["generation"]["number"]
    assert f"1 to {AT_ONCE} of {DAYS}" in said
    assert "pass" in said
    assert f"{DAYS}.25" in said
    assert "total_amount by order_date" in said


@pytest.mark.usefixtures("published")
async def test_its_rows_are_sorted_and_paged_by_the_address(console: Opened) -> None:
    seen = console()

    async def amounts(query: str) -> list[float]:
        shown = (await seen.json(f"/api/data?{query}"))["mart"]["shown"]
        place = [column["name"] for column in shown["columns"]].index("total_amount")
        return [float(row[place]) for row in shown["rows"]]

    rising = [number + 1.25 for number in range(DAYS)]
    assert await amounts("sort=total_amount&order=asc") == rising[:AT_ONCE]
    assert await amounts("sort=total_amount&order=asc&page=2") == rising[AT_ONCE:]
    assert await amounts("sort=total_amount") == rising[::-1][:AT_ONCE]
    assert await amounts("sort=total_orders&page=2") + await amounts("sort=total_orders") != []
    assert sorted(await amounts("sort=total_orders&page=2") + await amounts("sort=total_orders")) == rising
    assert await amounts("page=3") == []


@pytest.mark.usefixtures("published")
async def test_a_column_is_plotted_that_the_address_names(console: Opened) -> None:
    seen = console()
    plot = (await seen.json("/api/data?plot=avg_amount"))["mart"]["plot"]
    assert plot["column"] == "avg_amount"
    assert plot["y"] == [number + 1.25 for number in range(DAYS)]
    assert (await seen.json("/api/data"))["mart"]["plot"]["column"] == "total_amount"


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/data?dataset=other", 404),
        ("/data?mart=other", 404),
        ("/data?sort=other", 404),
        ("/data?sort=total_amount%22;DROP%20TABLE%20x", 404),
        ("/data?plot=other", 404),
        ("/data?plot=order_date", 404),
        ("/data?order=up", 422),
        ("/data?page=0", 422),
        ("/data?sql=" + "x" * (questions.LONGEST + 1), 422),
        ("/data/other/daily_order_metrics.csv", 404),
        ("/data/orders/other.csv", 404),
        ("/data/orders/daily_order_metrics.xlsx", 422),
        ("/data/other.csv?sql=SELECT+1", 404),
        ("/data/orders.csv", 422),
        ("/data/..%2f..%2fetc/passwd.csv", 404),
    ],
)
@pytest.mark.usefixtures("published")
async def test_what_the_address_names_wrongly_is_said(console: Opened, address: str, status: int) -> None:
    assert "<h1>" in await console().page(address, status=status)


@pytest.mark.usefixtures("published")
async def test_the_whole_mart_is_a_file(console: Opened) -> None:
    seen = console()
    csv, parquet = await seen.http.get(f"{MART}.csv"), await seen.http.get(f"{MART}.parquet")
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.headers["content-disposition"].startswith(
        'attachment; filename="orders-daily_order_metrics-gen-'
    )
    assert parquet.headers["content-type"] == "application/vnd.apache.parquet"
    assert parquet.headers["content-disposition"].endswith('.parquet"')
    rows = pq.read_table(io.BytesIO(parquet.content))
    assert rows.num_rows == DAYS
    assert pacsv.read_csv(io.BytesIO(csv.content)).num_rows == DAYS
    assert set(csv.text.splitlines()[0].replace('"', "").split(",")) == set(rows.column_names)


@pytest.mark.usefixtures("published")
async def test_where_another_machine_has_what_is_published_it_is_not_called_nothing(
    console: Opened, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere" / "warehouse").mkdir(parents=True)
    seen = console(home=tmp_path / "elsewhere")
    for address in ("/data", "/data?sql=SELECT+1"):
        said = await seen.text(address)
        assert "is published, and its file is not here" in said
        assert "published yet" not in said


@pytest.mark.usefixtures("published")
async def test_where_the_warehouse_is_not_here_the_page_says_so(console: Opened, tmp_path: Path) -> None:
    seen = console(home=tmp_path / "elsewhere")
    for address in ("/data", "/data?sql=SELECT+1"):
        said = await seen.text(address)
        assert "The warehouse can't be asked" in said
        assert "elsewhere" in said
    assert (await seen.http.get(f"{MART}.csv")).status_code == 404
    assert (await seen.http.get("/data/orders.csv?sql=SELECT+1")).status_code == 400


@pytest.mark.usefixtures("published")
async def test_with_postgres_away_the_mart_is_shown_all_the_same(console: Opened) -> None:
    said = await console("postgres_url").text("/data")
    assert "Postgres can't be asked" in said
    assert f"1 to {AT_ONCE} of {DAYS}" in said
    assert "published unknown" in said or "unknown published" in said
