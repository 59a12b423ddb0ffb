"""0 fine, 1 error, 2 usage, 3 ran and found problems, 5 unreachable or timed out, 130 interrupted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from libs.datasets import BUILT_IN
from libs.errors import Permanent, Transient
from services.cli.commands import doctor, status
from tests.unit.cli.calling import Drp


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail() -> Path:
        raise error

    monkeypatch.setattr(status, "home_folder", fail)


def test_a_contract_that_is_right_is_fine(drp: Drp) -> None:
    assert drp("dataset", "check").code == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Permanent("it failed", why="so", fix="this"), 1, "drp: it failed: so. Try: this\n"),
        (Permanent("it failed", why="a\n  ^", fix="this"), 1, "drp: it failed: a\n  ^\nTry: this\n"),
        (Permanent("it failed", why="a sentence.", fix="this"), 1, "drp: it failed: a sentence. Try: this\n"),
        (Transient("no answer"), 5, "drp: no answer\n"),
        (KeyboardInterrupt(), 130, "drp: interrupted\n"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "drp: /x/y: Permission denied\n"),
    ],
)
def test_an_error_is_its_code_and_what_why_and_the_next_command(
    drp: Drp, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    fails_with(monkeypatch, error)
    found = drp("status")
    assert (found.code, found.out, found.err) == (code, "", said)


def test_ctrl_c_in_the_midst_of_waiting(drp: Drp, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted() -> list[object]:
        os.kill(os.getpid(), 2)
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(doctor, "_examine", interrupted)
    found = drp("doctor")
    assert (found.code, found.out, found.err) == (130, "", "drp: interrupted\n")


def test_a_defect_of_ours_is_shown_whole(drp: Drp, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(monkeypatch, AssertionError("a defect"))
    with pytest.raises(AssertionError, match="a defect"):
        drp("status")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "drp: No such command 'nothing'. Try: drp -h"),
        (["opn"], "drp: No such command 'opn'. Did you mean 'open'? Try: drp -h"),
        (["batches", "nope"], "drp: No such command 'nope'. Try: drp batches -h"),
        (["up", "--scale", "generator=2"], "'generator' has no replicas"),
        (["up", "--scale", "ingestor=some"], "'ingestor=some' is no number of replicas"),
        (["status", "--nope"], "drp: No such option: --nope. Try: drp status -h"),
        (["status", "--every", "2s"], "drp: --every is for --watch. Try: drp status -h"),
        (["status", "--watch", "--every", "soon"], "'soon' is no time like 30s, 5m or 1h"),
        (["batches", "wait"], "drp: name a batch, or say --all. Try: drp batches wait -h"),
        (["batches", "wait", "last", "--all"], "drp: name a batch, or say --all."),
        (["batches", "close"], "drp: name a batch, or say --all."),
        (["batches", "close", "last", "--dataset", "orders"], "drp: name a batch, or say --all."),
        (["batches", "ls", "--status", "gone"], "not one of open, closed, building"),
        (["batches", "hold", "last"], "Missing option '--reason'"),
        (["replay"], "drp: say which: --batch ID, --since/--until TIME, or --all."),
        (["replay", "--all", "--since", "2026-01-01"], "drp: say which"),
        (["replay", "--verify", "--all"], "drp: --verify rebuilds from all of the archive"),
        (["replay", "--since", "yesterday"], "does not match the formats"),
        (["publish", "--file", "x.csv", "--map", "order_id"], "'order_id' is not FIELD=COLUMN"),
        (["publish"], "drp: say what to publish: --file FILE, --file -, or --url URL."),
        (["publish", "x.csv", "--url", "http://h/"], "drp: say what to publish"),
        (["publish", "x.csv", "--every", "60s"], "--records, --every and --header are for --url"),
        (["publish", "--url", "http://h/", "--format", "csv"], "--format is for --file"),
        (["publish", "--url", "http://h/", "--every", "soon"], "'soon' is no time like 30s, 5m or 1h"),
        (["publish", "--url", "http://h/", "--every", "0s"], "'0s' is no time"),
        (["publish", "--url", "http://h/", "--header", "s3cret"], "drp: --header takes NAME=VALUE. "),
        (["publish", "--url", "http://h/", "--header-env", "X=NOT_SET"], "NOT_SET is not set"),
        (["sql", "SELECT 1", "--json", "--format", "csv"], "--json and --format csv are two answers"),
        (["sql", "SELECT 1", "--format", "table", "-o", "x"], "a table is for reading"),
        (["quarantine", "show", "1", "--original", "--json"], "bytes are no JSON"),
    ],
)
def test_a_wrong_call_says_how_to_call_it(drp: Drp, arguments: list[str], said: str) -> None:
    found = drp(*arguments)
    assert (found.code, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1


def test_no_command_at_all_gets_the_help(drp: Drp) -> None:
    found = drp()
    assert (found.code, found.out) == (2, "")
    assert "Usage: drp" in found.err


def test_a_contract_that_is_wrong_is_a_problem_found(drp: Drp, tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text("apiVersion: v3.1.0\n")
    found = drp("dataset", "check", str(tmp_path))
    assert found.code == 3
    assert "contract.yaml" in found.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["open"],
        ["env"],
        ["batches", "ls"],
        ["batches", "show", "last"],
        ["batches", "wait", "--all"],
        ["ledger", "verify"],
        ["archive", "ls"],
        ["quality", "ls"],
        ["quarantine", "ls"],
        ["warehouse", "ls"],
        ["trace", "last"],
        ["rebuild"],
        ["publish", "--file", str(BUILT_IN / "orders" / "staging.sql")],
    ],
)
def test_where_nothing_runs_nothing_can_be_reached(drp: Drp, arguments: list[str]) -> None:
    found = drp(*arguments)
    assert (found.code, found.out) == (5, "")
    assert "drp up --detach" in found.err


@pytest.mark.parametrize(("arguments", "document"), [(["env"], "{}\n"), (["status"], None)])
def test_json_of_nothing_is_a_document_too(drp: Drp, arguments: list[str], document: str | None) -> None:
    found = drp(*arguments, "--json")
    assert found.code == 5
    assert found.out == document or '"running": false' in found.out


def test_stopping_nothing_is_fine(drp: Drp) -> None:
    found = drp("down")
    assert (found.code, found.out) == (0, "")
    assert "nothing runs in" in found.err


@pytest.mark.parametrize("command", ["status", "up", "down", "env"])
def test_a_home_that_is_a_file_is_said(drp: Drp, tmp_path: Path, command: str) -> None:
    home = tmp_path / "file"
    home.write_text("")
    os.environ["DRP_HOME"] = str(home)
    found = drp(command)
    assert (found.code, found.out) == (1, "")
    assert f"{home}" in found.err
    assert "Not a directory. Try: another DRP_HOME" in found.err


def test_a_home_that_can_not_be_made_is_said(drp: Drp) -> None:
    os.environ["DRP_HOME"] = "/proc/nowhere"
    found = drp("up", "--detach")
    assert found.code == 1
    assert "drp: /proc/nowhere" in found.err
    assert "Try: another DRP_HOME" in found.err


def test_a_setting_that_is_wrong_is_named(drp: Drp) -> None:
    os.environ["DRP_HTTP_PORT"] = "a lot"
    found = drp("config", "show")
    assert (found.code, found.out) == (1, "")
    assert "DRP_HTTP_PORT" in found.err


def test_a_scale_that_is_wrong_is_named(drp: Drp) -> None:
    os.environ["DRP_SCALE"] = "ingestor"
    found = drp("up")
    assert (found.code, found.out) == (1, "")
    assert "drp: DRP_SCALE: 'ingestor' is no number of replicas. Try: ingestor=1 to ingestor=16" in found.err


@pytest.mark.parametrize("arguments", [["-h"], ["config", "show"], ["config", "show", "--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "services.cli.app", *arguments]
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
