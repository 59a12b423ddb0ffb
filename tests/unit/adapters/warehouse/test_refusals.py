"""What DuckDB refused is told without the value that it refused."""

from __future__ import annotations

import io
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.adapters.warehouse import Database, Warehouse, query
from libs.errors import Permanent

PLANTED = "alice@secret.example"


@pytest.fixture
def database() -> Iterator[Database]:
    with Database.memory() as opened:
        opened.run("CREATE TABLE landed AS SELECT $1 AS amount", [PLANTED])
        opened.run("CREATE TABLE once (id VARCHAR PRIMARY KEY)")
        opened.run("INSERT INTO once SELECT amount FROM landed")
        yield opened


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT amount::INTEGER FROM landed", "Conversion Error (column amount)"),
        ("SELECT amount::TIMESTAMPTZ FROM landed", "Conversion Error (column amount)"),
        ("SELECT (amount || '')::JSON FROM landed", "Conversion Error (column amount)"),
        ("SELECT decode(encode(amount))::JSON FROM landed", "Conversion Error"),
        ("SELECT strptime(amount, '%Y') FROM landed", "Invalid Input Error"),
        ("SELECT error(amount) FROM landed", "Invalid Input Error"),
        ("INSERT INTO once SELECT amount FROM landed", "Constraint Error"),
        (
            "SELECT error('could not do it when casting from source column ' || split_part(amount, '@', 1)) "
            "FROM landed",
            "Invalid Input Error",
        ),
    ],
)
def test_a_value_that_was_refused_is_not_quoted(database: Database, statement: str, said: str) -> None:
    with pytest.raises(Permanent) as refused:
        database.rows(statement)
    assert refused.value.why == said
    assert refused.value.what.startswith(statement[:40])
    trace = io.StringIO()
    traceback.print_exception(refused.value, file=trace)
    assert "alice" not in trace.getvalue()


def test_a_stream_that_breaks_off_quotes_no_value_either(database: Database) -> None:
    database.run(
        "CREATE TABLE many AS SELECT CASE WHEN range = 900000 THEN $1 ELSE range::VARCHAR END AS amount "
        "FROM range(1000000)",
        [PLANTED],
    )
    reader = database.arrow("SELECT amount::INTEGER AS n FROM many", batch_rows=1000)
    with pytest.raises(Permanent) as refused:
        reader.read_all()
    assert refused.value.why == "Conversion Error (column amount)"
    trace = io.StringIO()
    traceback.print_exception(refused.value, file=trace)
    assert PLANTED not in trace.getvalue()


def test_what_is_wrong_with_the_statement_is_told_in_duckdbs_words(database: Database) -> None:
    with pytest.raises(Permanent, match=r'Referenced column "wonder" not found'):
        database.rows("SELECT wonder FROM landed")
    with pytest.raises(Permanent, match="Table with name wonder does not exist"):
        database.rows("SELECT * FROM wonder")
    with pytest.raises(Permanent, match="syntax error"):
        database.rows("SELEC 1")


def test_somebodys_own_question_is_answered_in_full(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path, "orders")
    file = Warehouse.file_name(1)
    warehouse.prepare(file)
    candidate = warehouse.open_candidate(file)
    candidate.run("CREATE TABLE landed AS SELECT $1 AS amount", [PLANTED])
    warehouse.seal(candidate)
    with pytest.raises(Permanent, match=PLANTED):
        query(warehouse.path_of(file), "SELECT amount::INTEGER FROM landed")
