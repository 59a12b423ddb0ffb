"""`drp up` on real servers and processes; the services are stand-ins."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from libs.errors import Permanent
from libs.runtime import supervisor
from libs.runtime.home import FORMAT, Home, Part
from libs.runtime.processes import Process, wait_for_end
from libs.testing.waiting import until

SERVICES = {"one": "stand_in", "two": "stand_in"}


@pytest.fixture(scope="module", autouse=True)
def _stand_in() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        # The two slow starters are left out where a test is not about them.
        patch.setenv("DRP_S3_ENDPOINT_URL", "http://127.0.0.1:9")
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        for name in ("DRP_REDIS_URL", "DRP_POSTGRES_URL"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    supervisor.down(folder)
    assert processes_of(folder) == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A platform for the tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("running") / "home"
    (folder.parent / "said").write_text("\n".join(up(folder)))
    yield folder
    supervisor.down(folder)


def up(home: Path, services: dict[str, str] = SERVICES) -> list[str]:
    """What it said."""
    said: list[str] = []
    supervisor.up(home, detach=True, services=services, on_progress=said.append)
    return said


def processes_of(home: Path) -> list[str]:
    """Of whatever name, as long as its arguments or environment name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(home) in told and entry.name != str(os.getpid()):
            found.append(told.decode(errors="replace")[:200])
    return found


def parts(home: Path) -> dict[str, Part]:
    state = Home(home).running()
    return {} if state is None else {part.name: part for part in state.parts}


def process(part: Part) -> Process:
    found = part.process
    assert found is not None
    return found


def test_up_is_ready(running: Path) -> None:
    status = supervisor.status(running)
    assert status.ready
    assert {part.name for part in status.parts} == {"redis", "postgres", "one", "two"}


def test_services_are_told_where_everything_is(running: Path) -> None:
    heard = json.loads((running / "heard.json").read_text())
    environment = supervisor.environment(running)
    assert heard["DRP_REDIS_URL"] == environment["DRP_REDIS_URL"]
    assert heard["DRP_POSTGRES_URL"] == environment["DRP_POSTGRES_URL"]
    assert heard["DRP_HOME"] == environment["DRP_HOME"] == str(running)
    assert environment["DRP_ONE_URL"] == f"http://127.0.0.1:{parts(running)['one'].port}"
    with psycopg.connect(environment["DRP_POSTGRES_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM ops.batches").fetchone() == (0,)


def test_no_password_is_shown(running: Path) -> None:
    password = (running / "redis" / "password").read_text()
    assert password not in (running.parent / "said").read_text()
    assert all(password not in part.url for part in supervisor.status(running).parts)
    assert (running / "run" / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_second_up_is_refused_with_the_command_to_run(running: Path) -> None:
    with pytest.raises(Permanent, match=r"runs already.*drp down"):
        up(running)
    assert supervisor.status(running).ready


@pytest.mark.parametrize("name", ["one", "redis", "postgres"])
async def test_what_is_killed_is_started_again_and_that_is_said(running: Path, name: str) -> None:
    before = process(parts(running)[name])
    before.send(signal.SIGKILL)
    await until(lambda: parts(running)[name].restarts == 1 and parts(running)[name].ready)
    assert process(parts(running)[name]) != before
    assert f"{name} ended (killed by SIGKILL)" in Home(running).log.read_text()
    assert f"{name} is ready again" in Home(running).log.read_text()


async def test_a_service_whose_port_was_taken_moves_and_its_new_address_is_told(running: Path) -> None:
    before = parts(running)["one"]
    process(before).send(signal.SIGKILL)

    async def taken() -> asyncio.Server:
        while True:
            with contextlib.suppress(OSError):
                return await asyncio.start_server(_always_fine, "127.0.0.1", before.port)
            await asyncio.sleep(0)

    async with await asyncio.wait_for(taken(), 30):
        await until(lambda: parts(running)["one"].restarts > before.restarts and parts(running)["one"].ready)
        after = parts(running)["one"]
    assert after.port != before.port
    assert supervisor.environment(running)["DRP_ONE_URL"] == after.url == f"http://127.0.0.1:{after.port}"
    assert f"one is ready again at {after.url}" in Home(running).log.read_text()


async def _always_fine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Another platform's service: whoever asks it whether ours is ready must not believe it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b'HTTP/1.0 200 OK\r\n\r\n{"service": "one", "pid": 1, "ready": true}')
    writer.close()


def test_the_next_up_finds_the_data_again(home: Path) -> None:
    up(home)
    environment = supervisor.environment(home)
    with redis.Redis.from_url(environment["DRP_REDIS_URL"]) as client:
        client.xadd("orders", {"data": "{}"})
    with psycopg.connect(environment["DRP_POSTGRES_URL"]) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    assert supervisor.down(home) is True
    assert processes_of(home) == []
    assert supervisor.status(home).running is False
    assert supervisor.down(home) is False
    up(home)
    environment = supervisor.environment(home)
    with redis.Redis.from_url(environment["DRP_REDIS_URL"]) as client:
        assert client.xlen("orders") == 1
    with psycopg.connect(environment["DRP_POSTGRES_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_service_that_cannot_start_fails_up_with_its_reason(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_MODE", "broken")
    with pytest.raises(Permanent, match=r"one does not start: contract\.yaml:7: write integer instead"):
        up(home, {"one": "stand_in"})
    assert processes_of(home) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_a_killed_supervisor_takes_everything_with_it(home: Path) -> None:
    up(home)
    state = Home(home).running()
    assert state is not None
    state.supervisor.send(signal.SIGKILL)
    left = [process(part) for part in state.parts]
    assert wait_for_end(left, timeout=240)
    assert supervisor.status(home).running is False
    up(home)
    assert supervisor.status(home).ready


def test_what_a_killed_supervisor_left_is_ended_by_the_next_up(home: Path) -> None:
    up(home)
    state = Home(home).running()
    assert state is not None
    orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left = Process.of(orphan.pid)
    assert left is not None
    supervisor.down(home)
    state.parts[0].pid, state.parts[0].started = left.pid, left.started
    Home(home).write(state)
    up(home)
    orphan.communicate()
    assert orphan.returncode == -signal.SIGINT


def test_newer_data_is_refused_with_the_command_to_run(home: Path) -> None:
    home.mkdir()
    (home / "format").write_text(str(FORMAT + 1))
    with pytest.raises(Permanent, match=r"git pull && make install"):
        up(home)
    assert [path.name for path in home.iterdir()] == ["format"]


def test_a_server_of_ones_own_wins_over_the_embedded_one(
    home: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRP_REDIS_URL", redis_url)
    up(home)
    assert set(parts(home)) == {"postgres", "one", "two"}
    assert supervisor.environment(home)["DRP_REDIS_URL"] == redis_url


def test_the_archive_and_the_traces_are_servers_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRP_S3_ENDPOINT_URL")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    up(home, {"one": "stand_in"})
    environment = supervisor.environment(home)
    found = parts(home)
    assert environment["DRP_S3_ENDPOINT_URL"] == found["objects"].url
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == environment["DRP_TRACES_URL"] == found["traces"].url


def test_replicas_are_processes_of_their_own_under_names_of_their_own(home: Path) -> None:
    supervisor.up(home, detach=True, services=SERVICES, scale={"two": 3})
    found = {part.name: part for part in supervisor.status(home).parts if part.kind == "service"}
    assert list(found) == ["one", "two", "two-2", "two-3"]
    assert all(part.ready for part in found.values())
    heard = {name: environment_of(process(part)) for name, part in parts(home).items() if name in found}
    assert {name: told["DRP_CONSUMER"] for name, told in heard.items()} == {
        "one": "one-1",
        "two": "two-1",
        "two-2": "two-2",
        "two-3": "two-3",
    }
    assert {name: int(told["DRP_HTTP_PORT"]) for name, told in heard.items()} == {
        name: part.port for name, part in found.items()
    }
    told = supervisor.environment(home)
    assert [told[f"DRP_TWO{suffix}_URL"] for suffix in ("", "_2", "_3")] == [
        found[name].url for name in ("two", "two-2", "two-3")
    ]


def environment_of(running: Process) -> dict[str, str]:
    entries = Path(f"/proc/{running.pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


ATTACHED = """
import json, sys
from pathlib import Path
from typing import Any
from libs.runtime import supervisor
def say(message): print(message, flush=True)
supervisor.DRAIN_WITHIN = 1
supervisor.up(Path(sys.argv[1]), services={"one": "stand_in"}, on_progress=say)
"""


def attached(home: Path, python: str = sys.executable, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-c", ATTACHED, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def follow(child: subprocess.Popen[str], wanted: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if wanted in line:
            return
    raise AssertionError(f"it ended: {child.communicate()}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_leaves_no_process(home: Path, number: signal.Signals) -> None:
    child = attached(home)
    follow(child, "ready after")
    child.send_signal(number)
    child.communicate(timeout=240)
    assert child.returncode == 0
    assert processes_of(home) == []


def test_down_ends_an_attached_up(home: Path) -> None:
    child = attached(home)
    follow(child, "ready after")
    supervisor.down(home)
    child.communicate(timeout=240)
    assert child.returncode == 0


def test_a_service_that_ignores_the_request_to_end_is_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_MODE", "stubborn")
    child = attached(home)
    follow(child, "ready after")
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=240)
    assert "one did not stop in time and is killed" in said
    assert processes_of(home) == []


def python_of(user: str) -> str:
    """This Python, or one of the same version that the user may run (ours may lie in root's own folder)."""
    probe = f"import sys, libs; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for candidate in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            if subprocess.run([candidate, "-c", probe], user=user, cwd="/", check=False).returncode == 0:
                return candidate
    pytest.skip(f"no Python {sys.version_info[:2]} that {user} may run: a plain user's up is NOT tested")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_plain_user_needs_no_more_than_root(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    packages = os.pathsep.join(
        [str(Path(__file__).parents[3]), sysconfig.get_path("purelib"), os.environ["PYTHONPATH"]]
    )
    monkeypatch.setenv("PYTHONPATH", packages)
    monkeypatch.setenv("HOME", "/")
    python = python_of("nobody")
    folder = Path(tempfile.mkdtemp(prefix="drp-plain-"))
    try:
        shutil.chown(folder, nobody.pw_uid, nobody.pw_gid)
        child = attached(
            folder / "home", python, user="nobody", group=nobody.pw_gid, extra_groups=[], cwd="/"
        )
        follow(child, "ready after")
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=240)
        assert child.returncode == 0
        assert processes_of(folder) == []
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder of root's")
def test_root_may_keep_its_data_where_nobody_else_goes(home: Path) -> None:
    home.mkdir(mode=0o700)
    up(home)
    assert supervisor.status(home).ready
    assert home.stat().st_mode & 0o777 == 0o700
    assert Path(f"/proc/{parts(home)['postgres'].pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
