"""What goes wrong, what is asked, and what is stopped: said on stderr, with its exit code, never a traceback."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from libs.runtime.processes import free_port
from tests.e2e.command_line.calling import Drp, Said, closed, interrupted, on_a_terminal, until_said

pytestmark = pytest.mark.heavy

WRONG: Final = {
    "batches show nope": "'nope' names no batch: no batch has such an id. Try: drp batches ls",
    "trace nope": "names no batch",
    "batches hold nope --reason x": "names no batch",
    "batches wait nope": "names no batch",
    "batches ls --dataset nope": "there is no dataset 'nope': known are orders",
    "quality show 999": "there is no generation 999. Try: drp warehouse ls",
    "quality accept 999 --reason x --yes": "there is no generation 999",
    "quarantine show 999": "nothing is quarantined under number 999",
    "warehouse rollback --to 999 --reason x --yes": "there is no generation 999",
    "archive get nope": "there is no nope in bucket drp",
    "sql SELEC": 'Try: drp sql "SHOW ALL TABLES"',
    "sql 'SELECT * FROM nope'": "nope",
    "sql 'CREATE TABLE x AS SELECT 1'": "read-only",
    "sql \"SELECT * FROM read_text('/etc/passwd')\"": "disabled",
    "sql \"SELECT 'infinity'::TIMESTAMP\" --format csv": "cast the column to VARCHAR",
    "sql 'SELECT 1' --output /nowhere/x.csv": "/nowhere/x.csv: No such file or directory",
    "publish --file nope.csv": "cannot open nope.csv: No such file or directory",
    "publish --file /": "cannot open /",
    "publish --file columns.csv": "Try: --map order_id=COLUMN",
    "publish --file bytes.csv": "is not UTF-8",
    "publish --file empty.csv": "empty.csv is empty",
    "publish --file columns.csv --map nope=a": "orders has no field 'nope'",
}
AWAY: Final = {
    "DRP_POSTGRES_URL": ("postgresql://drp:s3cr3t@127.0.0.1:{}/drp", "batches ls --json"),
    "DRP_REDIS_URL": ("redis://:s3cr3t@127.0.0.1:{}/0", "ledger verify --json"),
    "DRP_S3_ENDPOINT_URL": ("http://127.0.0.1:{}", "archive get x"),
    "DRP_TRACES_URL": ("http://127.0.0.1:{}", "trace last --json"),
}
AT_ONCE: Final = 3


@pytest.fixture(scope="module")
def wrong(drp: Drp) -> dict[str, Said]:
    """What each command that can't do it said; several asked at once, for most of it is waiting for Python."""
    here = drp.platform.home.parent
    (here / "columns.csv").write_text("a,b\n1,2\n")
    (here / "bytes.csv").write_bytes(b"\xff\xfe\x00\x01,\n")
    (here / "empty.csv").write_text("")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(WRONG, pool.map(lambda line: drp(*shlex.split(line)), WRONG), strict=True))


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_said_in_a_line_with_what_to_do(wrong: dict[str, Said], line: str) -> None:
    assert (wrong[line].code, wrong[line].out) == (1, "")
    assert wrong[line].err.startswith("drp: ")
    assert WRONG[line] in wrong[line].err


@pytest.fixture(scope="module")
def away(drp: Drp) -> dict[str, tuple[Said, int]]:
    """What a command says when the server of a setting is not there; and that server's port."""
    keys = {"DRP_S3_ACCESS_KEY": "mine", "DRP_S3_SECRET_KEY": "s3cr3t"}

    def ask(setting: str) -> tuple[Said, int]:
        url, line = AWAY[setting]
        port = free_port()
        return drp(*line.split(), **{setting: url.format(port), **keys}), port

    with ThreadPoolExecutor(len(AWAY)) as pool:
        return dict(zip(AWAY, pool.map(ask, AWAY), strict=True))


@pytest.mark.parametrize("setting", AWAY)
def test_a_server_that_is_away_is_told_without_its_password(
    away: dict[str, tuple[Said, int]], setting: str
) -> None:
    said, port = away[setting]
    assert (said.code, said.out) == (5, "")
    assert "s3cr3t" not in said.err
    assert f"127.0.0.1:{port}" in said.err


def test_a_wait_that_takes_too_long_says_what_is_left(drp: Drp) -> None:
    drp("publish", "--file", str(drp.folder / "later.csv"))
    said = drp("batches", "wait", "--all", "--timeout", "1")
    assert (said.code, said.out) == (5, "")
    assert "not settled within 1 s: 1 open" in said.err
    assert "Try: drp status --health" in said.err
    closed(drp.platform)


def test_ctrl_c_ends_a_wait(drp: Drp) -> None:
    drp("publish", "--file", str(drp.folder / "later.csv"))
    said = interrupted(drp, ["batches", "wait", "--all"], once="open")
    assert (said.code, said.out, said.err.splitlines()[-1]) == (130, "", "drp: interrupted")
    closed(drp.platform)


def test_a_terminal_is_asked_and_no_is_no(drp: Drp) -> None:
    for answer, code in (("n\n", 1), ("\n", 1)):
        said = on_a_terminal(drp, "warehouse", "rollback", "--reason", "x", answer=answer)
        assert (said.code, said.out) == (code, "")
        assert "[y/N]" in said.err
        assert "Nothing was done." in said.err
    done = on_a_terminal(drp, "replay", "--batch", drp.first, "--json", answer="y\n")
    assert (done.code, json.loads(done.out)["events"]) == (0, 3)
    assert "Publish 3 events of 1 batch again? [y/N]" in done.err
    closed(drp.platform)


def test_a_terminal_sees_how_far_publishing_is_and_stdout_stays_clean(drp: Drp) -> None:
    rows = "".join(f"R-{number},C-1,1.00,2026-01-09T00:00:00Z\n" for number in range(15_000))
    file = drp.folder / "many.csv"
    file.write_text(f"order_id,customer_id,amount,created_at\n{rows}")
    said = on_a_terminal(drp, "publish", "--file", str(file), "--json")
    assert (said.code, json.loads(said.out)["events"]) == (0, 15_000)
    assert "of 15,000 events" in said.err
    assert "a second" in said.err


def test_a_second_platform_in_the_same_home_is_refused(drp: Drp) -> None:
    said = drp("up", "--detach", "--json")
    assert (said.code, said.out) == (1, "")
    assert "a platform runs already" in said.err


def test_an_attached_platform_tells_its_parts_and_ends_with_ctrl_c(drp: Drp) -> None:
    assert drp("down", "--json").document == {"home": str(drp.platform.home), "stopped": True}
    assert drp("down", "--json").document == {"home": str(drp.platform.home), "stopped": False}
    for arguments in (["status", "--json"], ["env", "--json"], ["batches", "ls", "--json"]):
        assert drp(*arguments).code == 5
    assert drp("sql", "SELECT 1 AS one", "--json").document == [{"one": 1}]  # needs no server

    with subprocess.Popen(
        drp.platform.command("up", "--json"),
        env=drp.platform.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        document = until_said(running.stdout, "\n}\n")
        running.send_signal(signal.SIGINT)
        rest, err = running.communicate(timeout=240)
    found = json.loads(document)
    assert (running.returncode, rest, found["ready"], found["home"]) == (
        0,
        "",
        True,
        str(drp.platform.home),
    )
    (console,) = [part["url"] for part in found["parts"] if part["name"] == "console"]
    assert f"See it: {console} (drp open)\n" in err
    assert "stopping" in err
    assert not [part for part in found["parts"] if Path(f"/proc/{part['pid']}").exists()]
