"""The content hash sees every difference in content, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.adapters.warehouse import Database
from libs.errors import Permanent
from libs.pipeline.hashing import relation_hash

ROWS = (
    "('a', 'x', 1.50, TIMESTAMPTZ '2026-01-05 09:30:00.000001+00')",
    "('b', NULL, 2.00, TIMESTAMPTZ '2026-01-05 09:30:00+00')",
    "('c', '', NULL, NULL)",
)


@pytest.fixture
def database() -> Iterator[Database]:
    with Database.memory() as opened:
        yield opened


def hash_of(database: Database, *rows: str) -> str:
    database.run(
        "CREATE OR REPLACE TABLE t (k VARCHAR, v VARCHAR, amount DECIMAL(12, 2), moment TIMESTAMPTZ)"
    )
    for row in rows:
        database.run(f"INSERT INTO t VALUES {row}")
    return relation_hash(database, "t", ["k", "v", "amount", "moment"])


def test_the_order_of_rows_does_not_count(database: Database) -> None:
    assert hash_of(database, *ROWS) == hash_of(database, *reversed(ROWS))


def test_a_row_that_is_there_twice_counts_twice(database: Database) -> None:
    assert hash_of(database, *ROWS, ROWS[0]) != hash_of(database, *ROWS)
    assert hash_of(database, ROWS[0], ROWS[0]) != hash_of(database)


def test_a_missing_row_counts(database: Database) -> None:
    assert hash_of(database, *ROWS[1:]) != hash_of(database, *ROWS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("('a', NULL, NULL, NULL)", "('a', '', NULL, NULL)"),
        ("('a', 'b', NULL, NULL)", "('ab', '', NULL, NULL)"),
        ("('a', '1:b', NULL, NULL)", "('a1:b', '', NULL, NULL)"),
        ("('a', '-', NULL, NULL)", "('a', NULL, NULL, NULL)"),
        ("('a', 'b', 1.50, NULL)", "('a', 'b', 1.51, NULL)"),
        (
            "('a', 'b', NULL, TIMESTAMPTZ '2026-01-05 09:30:00+00')",
            "('a', 'b', NULL, TIMESTAMPTZ '2026-01-05 09:30:00.000001+00')",
        ),
    ],
)
def test_a_difference_in_a_value_counts(database: Database, one: str, other: str) -> None:
    assert hash_of(database, one) != hash_of(database, other)


def test_the_same_moment_is_the_same_in_any_zone(database: Database) -> None:
    berlin = hash_of(database, "('a', 'b', NULL, TIMESTAMPTZ '2026-01-05 10:30:00+01')")
    assert berlin == hash_of(database, "('a', 'b', NULL, TIMESTAMPTZ '2026-01-05 09:30:00+00')")


def test_the_hash_stays_what_it_is(database: Database) -> None:
    """Hashes stand in Postgres and in manifests: another way to count them is another format."""
    texts = ("1:a1:x4:1.5016:1767605400000001", "1:b-4:2.0016:1767605400000000", "1:c0:--")
    parts = [hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:] for text in texts]
    assert hash_of(database, *ROWS) == str(sum(int.from_bytes(part, "little") for part in parts))


def test_nothing_has_the_hash_nought(database: Database) -> None:
    assert hash_of(database) == "0"


def test_a_column_that_is_not_there_is_refused(database: Database) -> None:
    hash_of(database)
    with pytest.raises(Permanent, match="no column nope"):
        relation_hash(database, "t", ["nope"])


TEXTS = st.one_of(
    st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
)
TABLES = st.lists(st.tuples(TEXTS, TEXTS), max_size=6)


@settings(max_examples=40, deadline=None)
@given(one=TABLES, other=TABLES)
def test_two_tables_have_the_same_hash_exactly_if_they_hold_the_same_rows(
    one: list[tuple[str | None, str | None]], other: list[tuple[str | None, str | None]]
) -> None:
    def of(rows: list[tuple[str | None, str | None]]) -> str:
        opened.run("CREATE OR REPLACE TABLE t (a VARCHAR, b VARCHAR)")
        for row in rows:
            opened.run("INSERT INTO t VALUES (?, ?)", row)
        return relation_hash(opened, "t", ["a", "b"])

    def in_order(rows: list[tuple[str | None, str | None]]) -> list[str]:
        return sorted(map(repr, rows))

    with Database.memory() as opened:
        assert (of(one) == of(other)) == (in_order(one) == in_order(other))
