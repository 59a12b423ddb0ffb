"""To look at a platform: its console, its state again and again, its ids in the shell, the shape of its JSON."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.e2e.command_line.calling import Drp, Said
from tests.e2e.command_line.shapes import differences, shape_of
from tests.unit.cli.completing import offered
from tests.unit.cli.test_help import LEAVES, WRITES_BYTES

pytestmark = pytest.mark.heavy

SHAPES: Final = Path(__file__).parent / "json"
LOOKS: Final = {
    "archive ls": "",
    "archive verify": "",
    "batches ls": "",
    "batches show": "{first}",
    "batches wait": "--all",
    "config show": "",
    "dataset check": "",
    "doctor": "",
    "env": "",
    "events find": "A-1",
    "ledger show": "",
    "ledger verify": "",
    "open": "--print",
    "quality ls": "",
    "quality show": "",
    "quarantine ls": "",
    "quarantine redrive": "--all --dry-run",
    "quarantine show": "{refused}",
    "replay": "--all --dry-run",
    "sql": "'SELECT source_order_id, amount FROM staging.orders'",
    "status": "--health",
    "trace": "{first}",
    "warehouse ls": "",
    "warehouse path": "",
    "why": "{first}",
}
"""What a look at the platform is asked for beside --json."""
CHANGES: Final = {
    "alert test",
    "batches close",
    "batches hold",
    "batches release",
    "dataset init",
    "demo",
    "down",
    "publish",
    "quality accept",
    "quarantine discard",
    "quarantine fix",
    "quarantine reopen",
    "rebuild",
    "up",
    "warehouse resume",
    "warehouse rollback",
}
"""What does more than look: its own test says what its document holds."""
OTHERS: Final = {"dataset asyncapi"}
"""What somebody else's schema says the shape of."""
AT_ONCE: Final = 3


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """The command of a browser that writes what it is shown to a file `seen` beside it."""
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/seen\n')
    program.chmod(0o755)
    return program


def test_open_shows_the_console_in_the_browser(drp: Drp, browser: Path) -> None:
    url = drp.platform.urls["DRP_CONSOLE_URL"]
    said = drp("open", "batches", BROWSER=f"{browser} %s")
    assert (said.code, said.out, said.err) == (0, f"{url}/batches\n", "")
    assert (browser.parent / "seen").read_text() == said.out

    assert drp("open", "--json", BROWSER=f"{browser} %s").document == {"url": f"{url}/", "opened": True}
    said = drp("open", "--print", BROWSER=f"{browser} %s")
    assert (said.code, said.out, said.err) == (0, f"{url}/\n", "")
    assert (browser.parent / "seen").read_text() == f"{url}/batches\n{url}/\n"
    assert httpx.get(said.out.strip(), trust_env=False).status_code == 200


def test_what_is_meant_has_its_page(drp: Drp) -> None:
    url = drp.platform.urls["DRP_CONSOLE_URL"]
    newest = drp("batches", "ls", "--limit", "1", "--json").document[0]["id"]
    for what, page in {
        "flow": "/",
        drp.first: f"/batches/{drp.first}",
        drp.second[:20].upper(): f"/batches/{drp.second}",
        f"batch:{drp.first[:20]}": f"/batches/{drp.first}",
        "last": f"/batches/{newest}",
        "1": "/quarantine/1",
        "quarantine:2": "/quarantine/2",
        "A-1": "/events?q=A-1",
        "event:1": "/events?q=1",
        "0" * 32: f"/events?q={'0' * 32}",
        "a shop/é&x=1": "/events?q=a%20shop%2F%C3%A9%26x%3D1",
    }.items():
        assert drp("open", "--print", what).out == f"{url}{page}\n", what


@contextmanager
def watching(drp: Drp, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A watch, its stdout and stderr in pipes; it does not outlive the block."""
    with subprocess.Popen(
        drp.platform.command("status", "--watch", "--every", "0.2", *arguments),
        env=drp.platform.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_watch_goes_on_while_a_server_is_away(drp: Drp) -> None:
    with watching(drp, "--health", "--json") as running:
        assert running.stdout is not None
        looks = map(json.loads, running.stdout)
        first = next(looks)
        with drp.platform.hanging("postgres"):
            away = next(look for look in looks if look["unreachable"])
        back = next(look for look in looks if not look["unreachable"])
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=240)
    assert (running.returncode, err) == (130, "drp: interrupted\n")
    assert {part["name"] for part in first["parts"]} == {part["name"] for part in away["parts"]}
    assert "postgres" in away["unreachable"].lower()
    assert "concerns" not in away
    assert {flow["flow_name"] for flow in back["flows"]} >= {"ingest", "transform"}


def test_the_shell_is_offered_what_there_is(drp: Drp) -> None:
    def offers(line: str, value: str) -> dict[str, str]:
        """Asked again while the value is not there: a busy machine may be slower than one who types waits."""
        for _ in range(5):
            if value in (found := offered(line, drp.platform.environment)):
                break
        assert value in found, (line, found)
        return found

    found = offers("drp batches show ", drp.first)
    assert found[drp.first] == "published, orders, 5 events"
    assert {drp.second, "last"} <= found.keys()
    assert drp.second not in offers(f"drp archive ls --batch {drp.first[:20]}", drp.first)
    assert offers("drp quality show ", "1")["1"].endswith(", orders")
    assert sorted(offers("drp quarantine fix ", "2").values()) == ["unreadable", "wrong_type amount"]
    assert {drp.first, "1"} <= offers("drp why ", "quarantine:2").keys()
    assert {drp.second, "2"} <= offers("drp open ", "batches").keys()


def test_every_look_s_document_has_a_shape_that_was_agreed() -> None:
    assert LOOKS.keys() | CHANGES | OTHERS == set(LEAVES) - WRITES_BYTES
    assert {path.stem for path in SHAPES.glob("*.json")} == {name.replace(" ", "-") for name in LOOKS}


@pytest.fixture(scope="module")
def documents(drp: Drp) -> dict[str, Said]:
    """What each look says; several asked at once, for most of it is waiting for Python."""
    refused = drp("quarantine", "ls", "--reason", "wrong_type", "--json").document[0]["id"]

    def look(name: str) -> Said:
        return drp(*shlex.split(f"{name} {LOOKS[name].format(first=drp.first, refused=refused)} --json"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(LOOKS, pool.map(look, LOOKS), strict=True))


@pytest.mark.parametrize("name", LOOKS)
def test_json_has_the_shape_that_was_agreed(documents: dict[str, Said], name: str) -> None:
    found = shape_of(documents[name].document)
    kept = SHAPES / f"{name.replace(' ', '-')}.json"
    if os.environ.get("SNAPSHOTS") == "write":
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(f"{json.dumps(found, indent=2)}\n")
    agreed = json.loads(kept.read_text()) if kept.exists() else "no shape yet"
    assert sorted(differences(found, agreed)) == [], (
        "if it is meant: SNAPSHOTS=write pytest tests/e2e/command_line/test_looking.py -k shape"
    )
