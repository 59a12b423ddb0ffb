"""Asking a generation: everything in it, nothing outside, in every format."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

from libs.adapters.warehouse import Warehouse, query, write_result
from libs.errors import Permanent

SELECT = "SELECT * FROM staging.orders ORDER BY id"


@pytest.fixture
def generation(tmp_path: Path) -> Path:
    warehouse = Warehouse(tmp_path, "orders")
    file = Warehouse.file_name(1)
    warehouse.prepare(file)
    candidate = warehouse.open_candidate(file)
    candidate.run("CREATE SCHEMA staging")
    candidate.run(
        """
        CREATE TABLE staging.orders AS SELECT * FROM (VALUES
            (1, 7515.35::DECIMAL(12, 2), TIMESTAMPTZ '2026-01-05 09:30:00+00', DATE '2026-01-05', ['a', 'b']),
            (2, NULL, NULL, NULL, NULL)
        ) AS t (id, amount, moment, day, rules)
        """
    )
    warehouse.seal(candidate)
    return warehouse.path_of(file)


def test_a_generation_answers(generation: Path) -> None:
    table = query(generation, "SELECT count(*) AS n, sum(amount) AS total FROM staging.orders")
    assert table.column_names == ["n", "total"]
    assert [str(value) for value in table.to_pylist()[0].values()] == ["2", "7515.35"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY staging.orders TO '/tmp/drp-stolen.csv'",
        "EXPORT DATABASE '/tmp/drp-stolen'",
        "ATTACH '/tmp/drp-other.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET threads = 1",
        "INSERT INTO staging.orders (id) VALUES (3)",
        "DROP TABLE staging.orders",
        "CREATE TABLE staging.more AS SELECT 1",
        "SELECT * FROM generation",
        "SELECT",
        "",
    ],
)
def test_what_would_leave_the_file_or_change_it_is_refused(generation: Path, statement: str) -> None:
    before = generation.read_bytes()
    with pytest.raises(Permanent):
        query(generation, statement)
    assert generation.read_bytes() == before


def test_a_missing_generation_is_told(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"there is no .*gone\.duckdb"):
        query(tmp_path / "gone.duckdb", "SELECT 1")


@pytest.mark.parametrize(
    "value", ["(2::UHUGEINT ** 127)::UHUGEINT", "'10:00:00+02'::TIMETZ", "['10:00:00+02'::TIMETZ]"]
)
def test_what_arrow_would_tell_wrongly_is_refused(generation: Path, value: str) -> None:
    with pytest.raises(Permanent, match="column odd can not be told exactly") as refused:
        query(generation, f"SELECT 1 AS one, {value} AS odd")
    assert refused.value.fix == "cast it to VARCHAR"
    assert query(generation, f"SELECT {value}::VARCHAR AS told").num_rows == 1


def test_json_keeps_every_digit_and_says_the_zone(generation: Path) -> None:
    sink = io.BytesIO()
    write_result(query(generation, SELECT), sink, "json")
    first, second = json.loads(sink.getvalue())
    assert first == {
        "id": 1,
        "amount": "7515.35",
        "moment": "2026-01-05T09:30:00Z",
        "day": "2026-01-05",
        "rules": ["a", "b"],
    }
    assert set(second.values()) == {2, None}


def test_no_rows_are_an_empty_json_array(generation: Path) -> None:
    sink = io.BytesIO()
    write_result(query(generation, "SELECT * FROM staging.orders WHERE id > 9"), sink, "json")
    assert json.loads(sink.getvalue()) == []


def test_csv_has_a_header_and_lists_as_json(generation: Path, tmp_path: Path) -> None:
    target = tmp_path / "orders.csv"
    write_result(query(generation, SELECT), target, "csv")
    lines = target.read_text().splitlines()
    assert lines[0] == '"id","amount","moment","day","rules"'
    assert lines[1] == '1,7515.35,"2026-01-05T09:30:00Z",2026-01-05,"[""a"",""b""]"'
    assert lines[2] == "2,,,,"


def test_parquet_reads_back_as_it_was(generation: Path, tmp_path: Path) -> None:
    answer = query(generation, SELECT)
    target = tmp_path / "orders.parquet"
    write_result(answer, target, "parquet")
    assert pyarrow.parquet.read_table(target).to_pylist() == answer.to_pylist()
