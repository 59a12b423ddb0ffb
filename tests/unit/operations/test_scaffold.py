"""What is made of a sample: a folder that is right, whatever the sample's columns are called and hold."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.datasets import check, load_dataset
from libs.errors import Permanent
from libs.operations.scaffold import Scaffolded, init_dataset

CDNOW = Path(__file__).parents[2] / "data" / "cdnow_orders.csv.gz"


def made(folder: Path, text: str, *, name: str = "things", ending: str = "csv", **options: str) -> Scaffolded:
    sample = folder / f"sample.{ending}"
    sample.write_text(text)
    done = init_dataset(name, sample, folder / "datasets", **options)  # type: ignore[arg-type]
    assert check(done.folder) == []
    return done


def test_real_orders_become_a_dataset(tmp_path: Path) -> None:
    done = init_dataset("sales", CDNOW, tmp_path)
    assert (done.rows, done.more, done.refused, done.key) == (69_659, False, {}, "order_id")
    assert done.columns == {
        "order_id": "string",
        "customer_id": "string",
        "created_at": "date",
        "quantity": "integer",
        "amount": "numeric(12,2)",
    }
    dataset = load_dataset(tmp_path / "sales")
    assert (dataset.key.field, dataset.event_time and dataset.event_time.field) == ("order_id", "created_at")
    assert list(dataset.marts) == ["sales_by_day"]
    rules = {rule.name: rule.tolerance for rule in dataset.row_rules}
    assert (rules["amount_not_negative"], rules["order_id_not_null"]) == (0.02, 0.0)
    assert {"order_id_unique", "sales_not_empty"} <= {rule.name for rule in dataset.table_rules}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "22"], "integer"),
        (["1", "-2.50"], "numeric(12,2)"),
        (["1e3", "0.001"], "numeric(13,3)"),
        (["00501", "12345"], "string"),
        (["99999999999999999999", "1"], "string"),
        (["true", "false"], "boolean"),
        (["True", "False"], "string"),
        (["2026-01-05", "2026-01-06"], "date"),
        (["2026-01-05", "2026-01-06T09:30:00+01:00"], "timestamp"),
        (["2026-01-05 09:30:00", "2026-01-06T09:30:00Z"], "timestamp"),
        (["2026-02-30", "2026-01-06"], "string"),
        (["05.01.2026", "06.01.2026"], "string"),
        (["1", "x"], "string"),
        (["", ""], "string"),
    ],
)
def test_a_column_of_a_csv_is_what_all_its_values_are(tmp_path: Path, values: list[str], kind: str) -> None:
    rows = "".join(f"k{number},{value}\n" for number, value in enumerate(values))
    done = made(tmp_path, f"thing_id,value\n{rows}")
    assert (done.columns["value"], done.refused) == (kind, {})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "integer"),
        ([1, 2.5], "numeric(11,1)"),
        (["1.50", 2], "numeric(12,2)"),
        (["1", "2"], "string"),
        ([True, False], "boolean"),
        (["true", "false"], "string"),
        (["2026-01-05T00:00:00Z", None], "timestamp"),
        ([1, "x"], None),
        ([{"a": 1}, {"a": 2}], None),
        ([[1], []], None),
    ],
)
def test_a_field_of_json_is_what_all_its_values_are(
    tmp_path: Path, values: list[object], kind: str | None
) -> None:
    rows = "".join(json.dumps({"thing_id": f"k{n}", "value": value}) + "\n" for n, value in enumerate(values))
    done = made(tmp_path, rows, ending="jsonl")
    assert (done.columns.get("value"), done.refused) == (kind, {})
    assert done.left_out == ([] if kind else ["value"])


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "thing_id": pa.array([1, 2]),
            "price": pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)),
            "at": pa.array([dt.datetime(2026, 1, 5, tzinfo=dt.UTC), dt.datetime(2026, 1, 6, tzinfo=dt.UTC)]),
        }
    )
    pq.write_table(table, tmp_path / "sample.parquet")
    done = init_dataset("things", tmp_path / "sample.parquet", tmp_path)
    assert done.columns == {"thing_id": "integer", "price": "numeric(12,2)", "at": "timestamp"}
    assert (done.event_time, done.refused, check(done.folder)) == ("at", {}, [])
    assert not load_dataset(done.folder).column("price").required


def test_names_that_sql_or_the_platform_has_taken_are_given_others(tmp_path: Path) -> None:
    names = 'id,Order No,order,select,event_day,batch_id,rule,Größe,"a: b # c",order_no,yes,$x,12'
    done = made(tmp_path, f"{names}\n{','.join(map(str, range(13)))}\n", key="Order No")
    dataset = load_dataset(done.folder)
    assert [column.field for column in dataset.columns] == list(done.columns)
    assert {column.field: column.name for column in dataset.columns} == {
        "id": "source_id",
        "Order No": "order_no",
        "order": "order",
        "select": "select",
        "event_day": "source_event_day",
        "batch_id": "source_batch_id",
        "rule": "source_rule",
        "Größe": "gr_e",
        "a: b # c": "a_b_c",
        "order_no": "source_order_no",
        "yes": "yes",
        "$x": "x",
        "12": "c_12",
    }
    assert done.refused == {}


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("note,thing_id", "thing_id"),
        ("a,id", "id"),
        ("a,shopId", "shopId"),
        ("a,order no", "order no"),
        ("a,b", "a"),
    ],
)
def test_of_unique_columns_the_one_that_is_called_so_is_the_key(
    tmp_path: Path, columns: str, key: str
) -> None:
    assert made(tmp_path, f"{columns}\nx,y\nz,w\n").key == key


def test_without_a_unique_column_the_key_must_be_said(tmp_path: Path) -> None:
    rows = "a,b,at\nx,1,2026-01-05\nx,1,2026-01-06\n"
    with pytest.raises(Permanent, match=r"no column of the sample is unique.*--key COLUMN"):
        made(tmp_path, rows)
    done = made(tmp_path, rows, key="a")
    assert (done.key, done.key_repeats, done.event_time) == ("a", 1, "at")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key": "nope"}, "has no column 'nope': it has a, b, amount"),
        ({"key": "b"}, "'b' is no key: 1 rows have none"),
        ({"key": "amount"}, "'amount' is no key: it is a number"),
        ({"event_time": "a"}, "no timestamp or date"),
        ({"name": "Things"}, "'Things' is no name"),
        ({"name": "../x"}, "is no name"),
    ],
)
def test_what_can_not_be_is_refused_and_nothing_is_written(
    tmp_path: Path, options: dict[str, str], says: str
) -> None:
    with pytest.raises(Permanent, match=says):
        made(tmp_path, "a,b,amount\nx,1,1.5\ny,,2.5\n", **options)
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize("text", ["", "a,b\n"])
def test_a_sample_without_rows_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(Permanent, match=r"is empty|holds no rows"):
        made(tmp_path, text)


def test_without_a_time_publishing_needs_one(tmp_path: Path) -> None:
    done = made(tmp_path, "a\nx\n")
    assert done.event_time is None
    assert load_dataset(done.folder).event_time is None


def test_a_column_created_at_comes_before_others_that_are_times(tmp_path: Path) -> None:
    done = made(
        tmp_path, "a,day,updated_at,created_at\nx,2026-01-01,2026-01-01T10:00:00Z,2026-01-01T09:00:00Z\n"
    )
    assert done.event_time == "created_at"


def test_what_is_there_is_kept_unless_it_is_forced(tmp_path: Path) -> None:
    done = made(tmp_path, "a\nx\n")
    mine = done.folder / "staging.sql"
    mine.write_text("mine")
    with pytest.raises(Permanent, match="is there already"):
        made(tmp_path, "a\nx\n")
    assert mine.read_text() == "mine"
    init_dataset("things", tmp_path / "sample.csv", tmp_path / "datasets", force=True)
    assert check(done.folder) == []


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("CREATE TABLE by_week (week INTEGER)", "by_week.sql:1: a model is one SELECT"),
        (
            "SELECT week, count(*) AS n FROM staging.things GROUP BY week",
            'by_week.sql: .*column "week" not found',
        ),
    ],
)
def test_what_would_stay_beside_it_and_make_it_wrong_is_told_and_nothing_is_replaced(
    tmp_path: Path, sql: str, says: str
) -> None:
    done = made(tmp_path, "a\nx\n")
    other = done.folder / "marts" / "by_week.sql"
    other.write_text(sql)
    for name in done.files:
        (done.folder / name).write_text("mine")
    before = {file: file.read_bytes() for file in done.folder.rglob("*") if file.is_file()}

    with pytest.raises(Permanent, match=rf"(?s)marts/{says}.*Try: move {other} away"):
        init_dataset("things", tmp_path / "sample.csv", tmp_path / "datasets", force=True)

    assert {file: file.read_bytes() for file in done.folder.rglob("*") if file.is_file()} == before
    other.rename(tmp_path / "by_week.sql")
    (done.folder / "README.md").write_text("ours")
    (done.folder / "marts" / "all_of_it.sql").write_text("SELECT * FROM staging.things")
    init_dataset("things", tmp_path / "sample.csv", tmp_path / "datasets", force=True)
    assert (check(done.folder), (done.folder / "README.md").read_text()) == ([], "ours")
    assert list(load_dataset(done.folder).marts) == ["all_of_it", "things_by_day"]
    assert sorted(file.name for file in done.folder.iterdir()) == [
        "README.md",
        "contract.yaml",
        "marts",
        "staging.sql",
    ]


def test_a_folder_that_holds_another_mart_only_is_looked_at_whole_too(tmp_path: Path) -> None:
    mart = tmp_path / "datasets" / "things" / "marts" / "by_week.sql"
    mart.parent.mkdir(parents=True)
    mart.write_text("SELECT week FROM staging.things")
    with pytest.raises(Permanent, match="by_week"):
        made(tmp_path, "a\nx\n")
    assert [file.name for file in mart.parents[1].rglob("*")] == ["marts", "by_week.sql"]


def test_rows_the_contract_would_refuse_are_told(tmp_path: Path) -> None:
    done = made(tmp_path, "a,b\nx,1\ny\nz,2\n")
    assert (done.rows, done.refused) == (2, {"unreadable": 1})
