"""CSV and Parquet: DuckDB reads them and makes the JSON, column by column, out of text."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from libs.adapters.files.opening import is_gzip, opened
from libs.adapters.files.rows import CHUNK, TEXT_AT_MOST, Chunk, Form, Layout, Unreadable
from libs.errors import Permanent

__all__ = ["csv_header", "parquet_columns", "parquet_rows", "read_csv", "read_parquet"]

LINE_AT_MOST: Final = 8 * 1024 * 1024
DELIMITERS: Final = ",;\t|"


def read_csv(path: Path, layout: Layout) -> Iterator[Chunk]:
    """Rows first, then the lines that are none."""
    with _connected() as connection:
        columns = [(name, "VARCHAR") for name in csv_header(path)[0]]
        yield from _read_columns(connection, _select(_csv_source(path), columns, layout))
        yield from _rejected(connection)


def read_parquet(path: Path, layout: Layout) -> Iterator[Chunk]:
    """Numbers, dates and moments become text: RFC 3339, moments in UTC."""
    with _connected() as connection:
        source = f"read_parquet({_quoted(_literal(path))})"
        yield from _read_columns(connection, _select(source, parquet_columns(path), layout))


def parquet_rows(path: Path) -> int:
    with _connected() as connection:
        found = connection.execute("SELECT sum(num_rows) FROM parquet_file_metadata(?)", [_literal(path)])
        return int((found.fetchone() or (0,))[0])


def _select(source: str, columns: Sequence[tuple[str, str]], layout: Layout) -> str:
    """One row: JSON, time, id (uuid5 of name and JSON, by hand as DuckDB has none)."""
    texts = {layout.fields.get(name, name): _as_text(name, kind) for name, kind in columns}
    values = {field: _as_json(text, layout.forms.get(field, "text")) for field, text in texts.items()}
    members = [f"{_quoted(_json_text(field))} || ':' || {values[field]}" for field in sorted(values)]
    moment = "NULL::VARCHAR"
    if layout.time in texts:
        moment = _in_utc(f"try_cast({texts[layout.time]} AS TIMESTAMPTZ)")
    namespace = "".join(f"\\x{byte:02X}" for byte in uuid.NAMESPACE_URL.bytes)
    return f"""
        WITH rows AS (
            SELECT '{{' || {" || ',' || ".join(members)} || '}}' AS data, {moment} AS time FROM {source}
        ), hashed AS (
            SELECT data, time, sha1('{namespace}'::BLOB || encode({_quoted(layout.name)} || data)) AS hash
            FROM rows
        )
        SELECT data, time, concat(
            hash[1:8], '-', hash[9:12], '-5', hash[14:16], '-',
            translate(hash[17], '0123456789abcdef', '89ab89ab89ab89ab'), hash[18:20], '-', hash[21:32]) AS id
        FROM hashed
    """


def _as_text(name: str, kind: str) -> str:
    column = '"' + name.replace('"', '""') + '"'
    if kind == "TIMESTAMP WITH TIME ZONE":
        return _in_utc(column)
    if kind.startswith("TIMESTAMP"):
        return f"strftime({column}::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%f')"
    return column if kind == "VARCHAR" else f"{column}::VARCHAR"


def _in_utc(moment: str) -> str:
    return f"strftime({moment} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"


def _as_json(text: str, form: Form) -> str:
    quoted = f"coalesce(to_json({text})::VARCHAR, 'null')"
    plain = {"integer": "-?(0|[1-9][0-9]{0,18})", "boolean": "true|false"}.get(form)
    if plain is None:
        return quoted
    return f"CASE WHEN regexp_full_match({text}, '{plain}') THEN {text} ELSE {quoted} END"


def _read_columns(connection: Any, sql: str) -> Iterator[Chunk]:
    import duckdb

    try:
        for batch in connection.sql(sql).to_arrow_reader(CHUNK):
            data, times, ids = (column.to_pylist() for column in batch.columns)
            yield Chunk(ids=ids, data=data, times=times)
    except duckdb.Error as error:
        raise Permanent("the file cannot be read on", why=str(error).splitlines()[0][:300]) from error


def _rejected(connection: Any) -> Iterator[Chunk]:
    """The lines that DuckDB left out, once each, with the first thing it found wrong."""
    found = connection.execute(
        "SELECT line, first(csv_line ORDER BY column_idx), first(error_message ORDER BY column_idx)"
        " FROM reject_errors GROUP BY line ORDER BY line"
    )
    while rows := found.fetchmany(CHUNK):
        unreadable = [
            Unreadable(line=line, text=(text or "")[:TEXT_AT_MOST], error=error.splitlines()[0][:300])
            for line, text, error in rows
        ]
        yield Chunk((), (), (), unreadable)


def _csv_source(path: Path) -> str:
    names, delimiter = csv_header(path)
    columns = ", ".join(f"{_quoted(name)}: 'VARCHAR'" for name in names)
    return (
        f"read_csv({_quoted(_literal(path))}, columns = {{{columns}}}, auto_detect = false, header = true,"
        f" delim = {_quoted(delimiter)}, quote = '\"', escape = '\"', nullstr = '',"
        f" allow_quoted_nulls = false, max_line_size = {LINE_AT_MOST}, store_rejects = true,"
        f" compression = '{'gzip' if is_gzip(path) else 'none'}')"
    )


def csv_header(path: Path) -> tuple[list[str], str]:
    """The names in the first line, and what stands between them."""
    try:
        with opened(path) as file:
            first = file.readline(LINE_AT_MOST).decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Permanent(f"the header of {path} is not UTF-8", why=str(error)) from error
    delimiter = max(DELIMITERS, key=first.count)
    names = next(csv.reader([first], delimiter=delimiter, strict=False), [])
    if not all(names) or len({name.lower() for name in names}) != len(names):
        raise Permanent(
            f"the first line of {path} is no header", why=f"a name is empty or repeated: {first[:200]}"
        )
    return names, delimiter


def parquet_columns(path: Path) -> list[tuple[str, str]]:
    import duckdb

    try:
        with _connected() as connection:
            found = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({_quoted(_literal(path))})")
            return [(name, kind) for name, kind, *_ in found.fetchall()]
    except duckdb.Error as error:
        raise Permanent(f"{path} cannot be read as Parquet", why=str(error).splitlines()[0][:300]) from error


def _connected() -> Any:
    import duckdb

    connection = duckdb.connect(
        config={"autoload_known_extensions": False, "autoinstall_known_extensions": False}
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _literal(path: Path) -> str:
    """The path with nothing in it that DuckDB takes for a pattern."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in str(path))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _json_text(text: str) -> str:
    return msgspec.json.encode(text).decode()
