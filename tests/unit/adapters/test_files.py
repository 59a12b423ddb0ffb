"""Files are read as they are written; what is no row comes out with its line number."""

from __future__ import annotations

import gzip
import uuid
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.adapters.files import Chunk, Layout, columns_of, form_of, read_rows, row_id, rows_expected
from libs.errors import Permanent

PLAIN = Layout(name="urn:test:file", fields={}, forms={}, time="created_at")


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read(path: Path, layout: Layout = PLAIN) -> Chunk:
    """The whole file as one chunk."""
    chunks = list(read_rows(path, layout))
    return Chunk(
        ids=[one for chunk in chunks for one in chunk.ids],
        data=[one for chunk in chunks for one in chunk.data],
        times=[one for chunk in chunks for one in chunk.times],
        unreadable=[one for chunk in chunks for one in chunk.unreadable],
    )


def rows_of(path: Path, layout: Layout = PLAIN) -> list[dict[str, object]]:
    return [msgspec.json.decode(one) for one in read(path, layout).data]


def test_values_of_a_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    path = written(
        tmp_path, "f.csv", b'order_id,amount,note\n007,11.770,"say ""hi"", you"\n1e3, 3 ,\xc3\xa9\n'
    )
    assert rows_of(path) == [
        {"order_id": "007", "amount": "11.770", "note": 'say "hi", you'},
        {"order_id": "1e3", "amount": " 3 ", "note": "é"},
    ]


def test_an_empty_cell_is_null_and_a_quoted_one_is_empty_text(tmp_path: Path) -> None:
    path = written(tmp_path, "f.csv", b'a,b\n,""\n')
    assert rows_of(path) == [{"a": None, "b": ""}]


@pytest.mark.parametrize("delimiter", [b";", b"\t", b"|"])
def test_other_delimiters_and_line_ends_are_known(tmp_path: Path, delimiter: bytes) -> None:
    path = written(tmp_path, "f.csv", b"\xef\xbb\xbfa,b\r\n1,2\r\n".replace(b",", delimiter))
    assert rows_of(path) == [{"a": "1", "b": "2"}]


def test_lines_of_a_csv_that_are_no_rows_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "f.csv", b"a,b\n1,2\nshort\n3,4\n5,6,7\n\xff,8\n9,10\n")
    chunk = read(path)
    assert [msgspec.json.decode(one)["a"] for one in chunk.data] == ["1", "3", "9"]
    assert [(one.line, one.text) for one in chunk.unreadable[:2]] == [(3, "short"), (5, "5,6,7")]
    assert "Columns" in chunk.unreadable[0].error
    assert chunk.unreadable[2].line == 6
    assert "utf-8" in chunk.unreadable[2].error


def test_lines_of_json_that_are_no_objects_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "f.jsonl", b'{"a":1}\n\nno\n[2]\n{"a":"\xff"}\n{"a":NaN}\n{"a":3}')
    chunk = read(path)
    assert chunk.data == ['{"a":1}', '{"a":3}']
    assert [one.line for one in chunk.unreadable] == [3, 4, 5, 6]
    assert chunk.unreadable[0].text == "no"


def test_a_number_in_json_keeps_its_digits(tmp_path: Path) -> None:
    path = written(tmp_path, "f.jsonl", b'{"b": 12.10, "a": 123456789012345678901234567890.5}\n')
    assert read(path).data == ['{"a":123456789012345678901234567890.5,"b":12.10}']


def test_values_of_a_parquet_file_become_text_or_what_json_has_for_them(tmp_path: Path) -> None:
    table = pa.table(
        {
            "amount": pa.array([Decimal("11.70")], pa.decimal128(12, 2)),
            "count": pa.array([5], pa.int64()),
            "paid": pa.array([True]),
            "created_at": pa.array([1_767_605_400_000_000], pa.timestamp("us", "UTC")),
            "day": pa.array([20_458], pa.date32()),
            "none": pa.array([None], pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "f.parquet")
    layout = Layout(
        name="n",
        fields={"count": "pieces"},
        forms={"pieces": "integer", "paid": "boolean"},
        time="created_at",
    )
    assert rows_of(tmp_path / "f.parquet", layout) == [
        {
            "amount": "11.70",
            "pieces": 5,
            "paid": True,
            "created_at": "2026-01-05T09:30:00.000000Z",
            "day": "2026-01-05",
            "none": None,
        }
    ]
    assert read(tmp_path / "f.parquet", layout).times == ["2026-01-05T09:30:00.000000Z"]
    assert rows_expected(tmp_path / "f.parquet") == 1


def test_a_text_that_json_would_not_write_so_stays_text(tmp_path: Path) -> None:
    path = written(tmp_path, "f.csv", b"n,flag\n007,TRUE\n-5,true\n1.0,\n")
    layout = Layout(name="n", fields={}, forms={"n": "integer", "flag": "boolean"}, time=None)
    assert rows_of(path, layout) == [
        {"n": "007", "flag": "TRUE"},
        {"n": -5, "flag": True},
        {"n": "1.0", "flag": None},
    ]


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("1997-01-01", "1997-01-01T00:00:00"),
        ("1997-01-01T10:00:00+02:00", "1997-01-01T08:00:00"),
        ("1997-01-01 10:00:00", "1997-01-01T10:00:00"),
        ("yesterday", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_rows_time_is_utc_or_not_said(tmp_path: Path, form: str, cell: str, time: str | None) -> None:
    content = f"a,created_at\n1,{cell}\n" if form == "csv" else f'{{"created_at":"{cell}"}}\n'
    (found,) = read(written(tmp_path, f"f.{form}", content.encode())).times
    assert (found and found.removesuffix("Z").removesuffix(".000000")) == time


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_id_is_the_uuid5_of_name_and_row(tmp_path: Path, form: str) -> None:
    content = b'a,b\n1,"x\xc3\xa9"\n' if form == "csv" else '{"a":"1","b":"xé"}\n'.encode()
    chunk = read(written(tmp_path, f"f.{form}", content))
    assert chunk.data == ['{"a":"1","b":"xé"}']
    assert chunk.ids == [str(uuid.uuid5(uuid.NAMESPACE_URL, PLAIN.name + chunk.data[0]))]
    assert chunk.ids == [row_id(PLAIN.name + chunk.data[0])]


@pytest.mark.parametrize(("name", "content"), [("f.csv", b"a\n1\n"), ("f.jsonl", b'{"a":"1"}\n')])
def test_a_gzip_file_reads_as_what_is_in_it(tmp_path: Path, name: str, content: bytes) -> None:
    plain = written(tmp_path, name, content)
    packed = written(tmp_path, f"{name}.gz", gzip.compress(content))
    assert read(packed) == read(plain)
    assert columns_of(packed) == ["a"]
    assert rows_expected(packed) == 1


def test_a_name_is_never_taken_for_a_pattern(tmp_path: Path) -> None:
    written(tmp_path, "orders1.csv", b"a\nwrong\n")
    assert rows_of(written(tmp_path, "orders[1]*'?.csv", b"a\nright\n")) == [{"a": "right"}]


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("f.dat", b'{"a":1}', "jsonl"),
        ("f", b"a,b\n", "csv"),
        ("f.csv", b'{"a\n', "csv"),
        ("f.txt", b"\n\n{", "jsonl"),
    ],
)
def test_a_file_without_a_telling_name_is_judged_by_how_it_begins(
    tmp_path: Path, name: str, content: bytes, form: str
) -> None:
    assert form_of(written(tmp_path, name, content)) == form


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("f.csv", b"", "is empty"),
        ("f.csv", b"a,a\n1,2\n", "no header"),
        ("f.csv", b"a,,b\n1,2,3\n", "no header"),
        ("f.csv", b"\xff\xfe,b\n", "not UTF-8"),
        ("f.json", b"[1]", "JSON array"),
        ("f.parquet", b"PAR1 not really", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    with pytest.raises(Permanent, match=says):
        columns_of(written(tmp_path, name, content))


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="cannot open"):
        columns_of(tmp_path / "absent.csv")


@pytest.mark.parametrize("name", ["f.csv.gz", "f.jsonl.gz"])
def test_a_gzip_file_that_breaks_off_is_said_so(tmp_path: Path, name: str) -> None:
    rows = b"".join(b'{"a":"%d"}\n' % number for number in range(50_000))
    path = written(tmp_path, name, gzip.compress(b"a\n" + rows if "csv" in name else rows)[:-2000])
    with pytest.raises(Permanent, match="cannot be read on"):
        read(path)
