"""Values as people read them, and the command that asks for the same."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from services.console.domain.cells import LONGEST, cell, command_for, select


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (None, "int64", "NULL"),
        (True, "bool", "true"),
        (1998, "int64", "1998"),
        ("7515.30", "decimal128(38, 2)", "7515.30"),
        (0.1, "double", "0.1"),
        ("2026-01-02T03:04:05Z", "timestamp[us, tz=UTC]", "2026-01-02 03:04:05"),
        ("2026-01-02T03:04:05Z", "string", "2026-01-02T03:04:05Z"),
        ({"a": [1, "é"]}, "struct<a: list<item: int32>>", '{"a": [1, "é"]}'),
    ],
)
def test_a_value_is_shown_with_every_digit(value: Any, kind: str, said: str) -> None:
    assert cell(value, kind) == said


def test_measures_have_their_thousands_apart() -> None:
    assert cell("1234567.80", "decimal128(38, 2)", apart=True) == "1,234,567.80"
    assert cell(1234, "int64", apart=True) == "1,234"
    assert cell("1234", "string", apart=True) == "1234"


def test_a_long_value_is_cut_and_says_so() -> None:
    assert cell("x" * LONGEST, "string") == "x" * LONGEST
    assert cell("x" * 10_000, "string") == "x" * (LONGEST - 1) + "…"


@pytest.mark.parametrize(
    "sql", ["SELECT 1", "SELECT 'a'", "SELECT \"a\", 'b', $1, `c`, !d \\", "SELECT 1 -- it\nFROM x"]
)
def test_a_shell_reads_the_command_as_the_query(sql: str) -> None:
    assert shlex.split(command_for(sql)) == ["drp", "sql", sql]
    assert shlex.split(command_for(sql, dataset="a b")) == ["drp", "sql", "--dataset", "a b", sql]


def test_the_query_of_a_page_names_its_order_and_its_place() -> None:
    page = select("analytics.m", order_by='a"b', descending=True, rows=25, after=50)
    assert page == 'SELECT * FROM analytics.m\nORDER BY "a""b" DESC LIMIT 25 OFFSET 50'
    assert select("staging.x", order_by=None, descending=False, rows=25) == "SELECT * FROM staging.x LIMIT 25"
