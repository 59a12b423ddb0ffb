"""Tables, records and JSON: what stands on stdout."""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.cli import output
from services.cli.output import counted, exact_text, say, show_columns, show_record, show_rows, write_json
from tests.unit.cli.calling import terminal

MOMENT = datetime(2026, 1, 5, 9, 30, 1, 250_000, tzinfo=UTC)
BATCH = uuid.UUID("3f6dfb5e-0000-4000-8000-000000000001")


def test_a_table_is_aligned_numbers_at_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "a", "rows": 5, "note": None}, {"name": "long one", "rows": 12_000, "note": "x"}]
    show_rows(rows, as_json=False, columns=("name", "rows", "note"), empty="")

    assert capsys.readouterr().out.splitlines() == [
        "name        rows  note",
        "a              5  –",
        "long one  12,000  x",
    ]


def test_where_no_terminal_is_a_row_is_a_line_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"key": "x" * 3000}, {"key": "two\nlines"}], as_json=False, columns=("key",), empty="")

    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [3, 3000, 10]


def test_a_terminal_folds_a_table_to_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with terminal(monkeypatch, "stdout") as screen:
        show_rows([{"key": "x" * 100, "rows": 1}], as_json=False, columns=("key", "rows"), empty="")
        sys.stdout.flush()
        drawn = os.read(screen, 10_000).decode()

    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in drawn.splitlines()]
    assert max(map(len, lines)) <= 40
    assert sum(line.count("x") for line in lines) == 100


def test_an_empty_table_leaves_stdout_alone_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([], as_json=False, columns=("id",), empty="Nothing yet. Try: drp publish")

    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Nothing yet. Try: drp publish\n")


def test_json_of_no_rows_is_an_empty_array(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([], as_json=True, columns=("id",), empty="Nothing yet.")

    said = capsys.readouterr()
    assert (json.loads(said.out), said.err) == ([], "")


def test_json_keeps_every_field_and_every_digit(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": BATCH, "at": MOMENT, "amount": Decimal("0.10"), "shown": 1, "bytes": 12_345_678_901}
    show_rows([row], as_json=True, columns=("id",), empty="")

    assert json.loads(capsys.readouterr().out) == [
        {
            "id": str(BATCH),
            "at": "2026-01-05T09:30:01.250000Z",
            "amount": "0.10",
            "shown": 1,
            "bytes": 12_345_678_901,
        }
    ]


def test_a_record_is_a_name_and_a_value_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"batch_id": BATCH, "held": None, "published": True, "rules": ["a", "b"], "text": "one\ntwo"}
    show_record(record, as_json=False)

    assert capsys.readouterr().out.splitlines() == [
        f"batch id   {BATCH}",
        "held       –",
        "published  yes",
        "rules      a, b",
        "text       one",
        "           two",
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("12345678901234567890.10"), "12345678901234567890.10"),
        (Decimal("1E+3"), "1000"),
        (1_000_000, "1000000"),
        (0.1 + 0.2, "0.30000000000000004"),
        (True, "true"),
        (None, "NULL"),
        (date(2026, 1, 5), "2026-01-05"),
        (MOMENT, "2026-01-05 09:30:01.250000+00:00"),
        (b"\x00\xff", "00ff"),
        ([1, {"a": Decimal("1.50")}], '[1,{"a":"1.50"}]'),
        ("plain", "plain"),
    ],
)
def test_an_answer_to_sql_is_written_with_every_digit(value: object, written: str) -> None:
    assert exact_text(value) == written


def test_columns_of_one_name_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    show_columns(["a", "a"], [[1, 2], ["x", "y"]], text=exact_text)

    assert capsys.readouterr().out.splitlines() == ["a  a", "1  x", "2  y"]


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x9b31m", "a\rb", "\x07"])
def test_what_a_producer_sent_does_not_steer_the_terminal(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_rows([{"text": hostile, "in": {"a": [hostile]}}], as_json=False, columns=("text", "in"), empty="")
    show_record({"text": hostile, "list": [hostile]}, as_json=False)
    show_columns([hostile], [[hostile]], text=exact_text)
    say(f"it said {hostile}")

    said = capsys.readouterr()
    assert not set("\x1b\x9b\r\x07") & set(said.out + said.err)


def test_json_is_one_document_and_the_table_before_it_stays_before_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    output.print_text("first")
    write_json({"second": 1})

    out = capfd.readouterr().out
    assert out.startswith("first\n")
    assert json.loads(out.removeprefix("first\n")) == {"second": 1}


def test_progress_shows_how_many_of_how_many_and_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with terminal(monkeypatch, "stderr") as screen:
        with counted("events") as update:
            update(10, 5000)
            update(2500, 5000)
        sys.stderr.flush()
        drawn = ""
        while "2,500 of 5,000 events" not in drawn:
            drawn += os.read(screen, 100_000).decode()

    assert "a second" in drawn


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with counted("events") as update:
        update(10, None)

    said: Any = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
