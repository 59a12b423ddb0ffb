"""/data?sql=: what may be asked of a generation, what is refused, and what it may cost."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pyarrow.parquet as pq
import pytest

from libs.adapters.warehouse import Database, Limits, Warehouse
from libs.datasets import load_datasets
from services.console.handlers import create_app
from services.console.looks import questions
from services.console.looks.room import Room
from services.console.settings import ConsoleSettings
from tests.integration.console.conftest import Console

ROWS = 30
FOREVER = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(10000) c"

_GENERATION = (
    "CREATE SCHEMA staging",
    "CREATE SCHEMA analytics",
    f"CREATE TABLE staging.orders AS SELECT 'o-' || range AS source_order_id, "
    f"(range + 1.25)::DECIMAL(12, 2) AS amount, DATE '2026-01-01' + range::INTEGER AS order_date FROM range({ROWS})",
    "CREATE TABLE analytics.daily_order_metrics AS SELECT order_date, count(*) AS total_orders, sum(amount) AS "
    "total_amount FROM staging.orders GROUP BY order_date",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A platform's folder with a generation of a few orders."""
    return a_generation(tmp_path_factory.mktemp("home"), *_GENERATION)


def a_generation(folder: Path, *statements: str) -> Path:
    """Of these statements, which readers see; the folder."""
    warehouse = Warehouse(folder / "warehouse", "orders")
    file = Warehouse.file_name(1)
    with Database.candidate(warehouse.prepare(file)) as candidate:
        for statement in statements:
            candidate.run(statement)
        warehouse.seal(candidate)
    warehouse.point_current_at(file)
    return folder


@asynccontextmanager
async def a_console(home: Path) -> AsyncIterator[Console]:
    """It has the warehouse's files, and no server at all."""
    stop = asyncio.Event()
    room = Room(ConsoleSettings(home=home), load_datasets(), stop)
    app = create_app()
    app.state.room = room
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        yield Console(http, room, stop)
    await room.close()


@pytest.fixture
async def seen(home: Path) -> AsyncIterator[Console]:
    async with a_console(home) as console:
        yield console


async def asked(seen: Console, sql: str) -> Any:
    return await seen.json("/api/data?" + urlencode({"sql": sql}))


async def refused(seen: Console, sql: str) -> str:
    """Why; fails if it was answered."""
    answer = await seen.http.get("/api/data", params={"sql": sql})
    assert answer.status_code == 400, answer.text[:500]
    refusal = answer.json()["refusal"]
    return f"{refusal['what']}: {refusal['why']}"


def written() -> list[Path]:
    """What no question may leave behind."""
    return list(Path("/tmp").glob("drp-out*"))  # noqa: S108 - as the questions name it


def told(process: str) -> bytes:
    """Its environment."""
    return Path(f"/proc/{process}/environ").read_bytes()


def answering() -> list[str]:
    """The processes of ours that answer a question."""
    found = []
    for task in Path("/proc").glob("[0-9]*"):
        try:
            line, state = (
                (task / "cmdline").read_bytes(),
                (task / "stat").read_text().rpartition(")")[2].split(),
            )
        except OSError:
            continue
        if b"warehouse.answering" in line and int(state[1]) == os.getpid() and state[0] != "Z":
            found.append(task.name)
    return found


async def test_an_answer_is_shown_and_is_a_file(seen: Console) -> None:
    columns = "source_order_id AS name, amount, 1.5::DOUBLE AS x, [1, 2] AS l, NULL AS n"
    sql = f"SELECT {columns} FROM staging.orders ORDER BY amount"
    told = await asked(seen, sql)
    assert [column["name"] for column in told["answer"]["columns"]] == ["name", "amount", "x", "l", "n"]
    assert told["answer"]["rows"][0] == ["o-0", "1.25", 1.5, [1, 2], None]
    assert not told["cut"]
    address = "?" + urlencode({"sql": sql})
    said = await seen.text(f"/data{address}")
    assert f"{ROWS} rows" in said
    assert "drp sql" in said
    table = pq.read_table(io.BytesIO((await seen.http.get(f"/data/orders.parquet{address}")).content))
    assert table.num_rows == ROWS
    csv = await seen.http.get(f"/data/orders.csv{address}")
    assert csv.text.splitlines()[1].replace('"', "") == "o-0,1.25,1.5,[1,2],"


async def test_a_thousand_rows_are_shown_and_that_there_are_more_is_said(seen: Console) -> None:
    exactly, more = await asked(seen, "FROM range(1000)"), await asked(seen, "FROM range(1001)")
    assert (len(exactly["answer"]["rows"]), exactly["cut"]) == (1000, False)
    assert (len(more["answer"]["rows"]), more["cut"]) == (1000, True)
    assert "There are more" in await seen.text("/data?sql=FROM+range(1001)")
    assert len((await seen.http.get("/data/orders.csv?sql=FROM+range(1001)")).text.splitlines()) == 1002


async def test_a_wide_answer_has_fewer_rows_and_a_wider_one_none(seen: Console) -> None:
    wide = ", ".join(f"a AS c{number}" for number in range(500))
    body = await seen.page(
        "/data?" + urlencode({"sql": f"SELECT {wide} FROM (SELECT true AS a FROM range(1000))"})
    )
    assert "The first 100 rows" in body
    assert body.count("<td") == 50_000
    wider = "PIVOT (SELECT range AS r FROM range(1001)) ON r USING count(*)"
    assert "more than 1,000 columns" in await refused(seen, wider)


@pytest.mark.parametrize(
    ("value", "shown", "in_a_file"),
    [
        ("TIMESTAMP_NS '2026-01-01 00:00:00.000000123'", "00.000000123", "2026-01-01T00:00:00.000000123"),
        ("TIMESTAMP_NS '2026-01-01 00:00:00'", "00:00:00", "2026-01-01T00:00:00"),
        ("TIMESTAMP_MS '2026-01-01 00:00:00.5'", "00:00:00.500", "2026-01-01T00:00:00.500000"),
        ("TIMESTAMP_MS '2026-01-01 00:00:00'", "00:00:00", "2026-01-01T00:00:00"),
        ("TIMESTAMPTZ '2026-01-01 02:00:00+02'", "00:00:00Z", "2026-01-01T00:00:00Z"),
    ],
)
async def test_a_moment_is_told_to_the_unit_that_it_has(
    seen: Console, value: str, shown: str, in_a_file: str
) -> None:
    ((told,),) = (await asked(seen, f"SELECT {value} AS t"))["answer"]["rows"]
    assert told.startswith("2026-01-01T00:00:00")
    assert told.endswith(shown)
    answer = await seen.http.get(
        "/data/orders.csv", params={"sql": f"SELECT {value} AS t, [{value}] AS list"}
    )
    assert answer.text.splitlines()[1] == f'"{in_a_file}","[""{in_a_file}""]"'


async def test_a_mart_that_a_form_can_not_hold_is_refused_in_words(tmp_path: Path) -> None:
    mart = "CREATE TABLE analytics.daily_order_metrics AS SELECT INTERVAL 1 MONTH AS every"
    async with a_console(a_generation(tmp_path, "CREATE SCHEMA analytics", mart)) as seen:
        for form in ("csv", "parquet"):
            said = await seen.page(f"/data/orders/daily_order_metrics.{form}", status=400)
            assert f"can not be written as {form}" in said


async def test_a_list_of_numbers_is_no_number_to_plot(tmp_path: Path) -> None:
    mart = "CREATE TABLE analytics.daily_order_metrics AS SELECT DATE '2026-01-01' AS day, [1, 2] AS amounts"
    async with a_console(a_generation(tmp_path, "CREATE SCHEMA analytics", mart)) as seen:
        page = await seen.json("/api/data")
        assert (page["mart"]["plottable"], page["mart"]["plot"]) == ([], None)
        assert page["mart"]["shown"]["rows"] == [["2026-01-01", [1, 2]]]
        assert (await seen.http.get("/api/data?plot=amounts")).status_code == 404


async def test_a_moment_that_no_calendar_has_is_refused(seen: Console) -> None:
    assert "can not be shown" in await refused(seen, "SELECT TIMESTAMP 'infinity'")


async def test_a_file_is_whole_or_there_is_none(seen: Console) -> None:
    answer = await seen.http.get(f"/data/orders.csv?sql=FROM+range({questions.TO_KEEP.rows + 1})")
    assert answer.status_code == 400
    assert "a file is whole" in answer.text


async def test_the_page_shows_what_is_asked_as_text(seen: Console) -> None:
    body = await seen.page("/data?" + urlencode({"sql": "SELECT '<script>alert(1)</script>' AS \"<b>\""}))
    assert "<script>alert" not in body
    assert "<b>" not in body
    assert "&lt;script&gt;" in body


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM read_text('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM read_blob('/etc/*')", "file system operations are disabled"),
        ("SELECT * FROM read_parquet('https://example.com/x.parquet')", "disabled"),
        ("SELECT * FROM sniff_csv('/etc/passwd')", "disabled"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT * FROM glob('/*')", "file system operations are disabled"),
        ("SELECT getenv('PATH')", "getenv"),
        ("COPY (SELECT 1) TO '/tmp/drp-out.csv'", "COPY is not answered"),
        ("COPY staging.orders FROM '/etc/passwd'", "COPY"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/drp-out.csv'", "disabled"),
        ("EXPORT DATABASE '/tmp/drp-out'", "EXPORT is not answered"),
        ("IMPORT DATABASE '/tmp/drp-out'", "only what reads is"),
        ("ATTACH '/tmp/drp-other.duckdb'", "ATTACH is not answered"),
        ("DETACH warehouse", "DETACH is not answered"),
        ("USE memory", "only what reads is"),
        ("INSTALL httpfs", "only what reads is"),
        ("LOAD httpfs", "only what reads is"),
        ("SET memory_limit = '10GB'", "SET is not answered"),
        ("RESET memory_limit", "only what reads is"),
        ("SET GLOBAL enable_external_access = true", "only what reads is"),
        ("PRAGMA threads = 4", "SET is not answered"),
        ("PRAGMA database_list", "PRAGMA is not answered"),
        ("CALL enable_logging()", "CALL is not answered"),
        ("CHECKPOINT", "only what reads is"),
        ("BEGIN", "only what reads is"),
        ("PREPARE x AS SELECT 1", "only what reads is"),
        ("CREATE TABLE staging.x AS SELECT 1", "CREATE is not answered"),
        ("CREATE TEMP TABLE x AS SELECT 1", "CREATE is not answered"),
        ("CREATE SECRET (TYPE s3)", "only what reads is"),
        ("INSERT INTO staging.orders SELECT * FROM staging.orders", "INSERT is not answered"),
        ("DELETE FROM staging.orders", "DELETE is not answered"),
        ("UPDATE staging.orders SET amount = 0", "UPDATE is not answered"),
        ("DROP TABLE staging.orders", "DROP is not answered"),
        ("EXPLAIN ANALYZE DELETE FROM staging.orders", "read-only"),
        ("SELECT 1; DROP TABLE staging.orders", "2 statements"),
        ("-- nothing", "no statement"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM staging.nothing", "Table with name nothing does not exist"),
        ("SELECT 'x'::DATE", "invalid date"),
        ("SELECT DATE 'infinity'", "a value can not be shown"),
    ],
)
async def test_a_question_can_only_read_this_generation(seen: Console, sql: str, why: str) -> None:
    assert why in await refused(seen, sql)
    assert len((await asked(seen, "FROM staging.orders"))["answer"]["rows"]) == ROWS
    assert written() == []


@pytest.mark.parametrize(
    "sql",
    [
        FOREVER,
        "SELECT levenshtein(repeat('a', 100000), repeat('b', 100000))",
        "SELECT lpad('', 500000000, 'x')",
    ],
)
async def test_what_takes_long_is_ended_though_it_hears_no_interrupt(
    seen: Console, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "SHOWN", Limits(seconds=1.0, memory=2_000))
    assert "longer than 1 s" in await refused(seen, sql)
    assert not answering()


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT list(range) FROM range(1000000000)", "more than 256 MB"),
        ("SELECT length(repeat('x', 2000000000))", "more than 256 MB"),
        ("SELECT repeat('abcdefgh', 1000000) FROM range(100000)", "more than 256 MB"),
        ("FROM range(100000000) ORDER BY hash(range)", "more than 256 MB"),
        ("SELECT repeat('abcdefgh', 10000) FROM range(1000)", "larger than 16 MB"),
    ],
)
async def test_what_needs_much_is_ended(
    seen: Console, sql: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "SHOWN", Limits(seconds=30.0))
    assert why in await refused(seen, sql)
    assert not answering()


async def test_pages_come_while_questions_are_answered_and_a_third_waits_or_is_told_to(
    seen: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "SHOWN", Limits(seconds=300.0))
    monkeypatch.setattr(questions, "WAITS", 0.2)
    asking = [asyncio.create_task(seen.http.get("/api/data", params={"sql": FOREVER})) for _ in range(3)]
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    (third,) = done
    assert third.result().status_code == 503
    assert "others are being answered" in third.result().text
    await seen.page("/data")
    assert len(answering()) == questions.AT_ONCE  # they go on: it did not wait for them
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert not answering()
    assert (await asked(seen, "SELECT 1"))["answer"]["rows"] == [[1]]


async def test_a_question_ends_when_the_browser_leaves(
    seen: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "SHOWN", Limits(seconds=300.0))
    app = seen.http._transport.app  # type: ignore[attr-defined]
    left, answers = asyncio.Event(), []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/api/data",
        "raw_path": b"/api/data",
        "query_string": b"sql=" + quote(FOREVER).encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    serving = asyncio.create_task(app(scope, receive, send))
    async with asyncio.timeout(120):
        while not answering():
            await asyncio.wait({serving}, timeout=0.02)
    left.set()
    async with asyncio.timeout(60):
        await serving
    assert not answering()
    assert answers[0]["status"] == 499


async def test_what_answers_is_told_nothing_of_ours(seen: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_S3_SECRET_KEY", "never-to-be-seen")
    asking = asyncio.create_task(seen.http.get("/api/data", params={"sql": FOREVER}))
    while not answering():
        await asyncio.wait({asking}, timeout=0.02)
    environment = told(answering()[0])
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert b"PYTHONPATH" in environment
    assert b"never-to-be-seen" not in environment
