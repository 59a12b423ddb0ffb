"""The embedded servers as processes: what they keep, what they leave to others, what they say when they can't."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from libs.errors import Permanent
from libs.runtime.embedded.postgres import PostgresServer
from libs.runtime.embedded.redis import RedisServer
from libs.runtime.processes import Process, free_port


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path / "a folder's näme", free_port())
    server.start()
    server.wait_ready()
    yield server
    server.stop()


def test_what_was_committed_outlives_a_kill(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    postgres.kill()
    postgres.start()
    postgres.wait_ready()
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)


def test_postgres_keeps_the_promise_and_asks_for_its_password(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
        assert connection.execute("SELECT 'ß' ~ '\\w', upper('ü')").fetchone() == (True, "Ü")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://drp:guess@127.0.0.1:{postgres.port}/drp")


def test_a_half_made_data_folder_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data.new" / "base").mkdir(parents=True)
    server = PostgresServer(tmp_path, free_port())
    server.start()
    server.wait_ready()
    server.stop()
    assert not (tmp_path / "postgres" / "data.new").exists()


def test_a_new_owner_ends_what_its_predecessor_left(tmp_path: Path) -> None:
    first = RedisServer(tmp_path, free_port())
    first.start()
    first.wait_ready()
    second = RedisServer(tmp_path, free_port())
    second.start()
    second.wait_ready()
    assert first.pid is None
    assert second.pid is not None
    second.stop()


def test_a_number_that_is_somebody_elses_by_now_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "redis.pid").write_text(f'{{"pid": {stranger.pid}, "started": "another time"}}')
        server = RedisServer(tmp_path, free_port())
        server.start()
        server.wait_ready()
        server.stop()
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    manifest = tmp_path / "redis" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("not one\n")
    server = RedisServer(tmp_path, free_port())
    server.start()
    with pytest.raises(Permanent, match=r"redis ended at its start: .*logs/redis\.log") as caught:
        server.wait_ready()
    server.stop()
    assert "manifest" in str(caught.value)


def test_a_port_that_was_taken_before_the_server_ever_answered_is_left_to_who_has_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        server = RedisServer(tmp_path, taken.getsockname()[1])
        server.start()
        server.wait_ready()
        server.stop()
        assert server.port != taken.getsockname()[1]


def test_a_server_that_is_known_by_its_port_stays_there(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_port())
    server.start()
    server.wait_ready()
    server.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        server.start()
        assert server.port == taken.getsockname()[1]
        with pytest.raises(Permanent, match="ended at its start"):
            server.wait_ready()
    server.start()
    server.wait_ready()
    server.stop()


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has a folder that others can't enter and is refused by initdb"
)
def test_as_root_postgres_is_nobody_with_one_power(postgres: PostgresServer) -> None:
    status = Path(f"/proc/{postgres.pid}/status").read_text()
    told = dict(line.split(":\t", 1) for line in status.splitlines())
    assert told["Uid"].split() == ["65534"] * 4
    assert told["Groups"].strip() == ""
    assert int(told["CapEff"], 16) in (0, 1 << 1), "to pass by file permissions, and no other"


def test_a_stopped_server_leaves_no_process_and_no_pid_file(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_port())
    server.start()
    server.wait_ready()
    assert server.pid is not None
    found = Process.of(server.pid)
    assert found is not None
    server.stop()
    server.stop()
    assert not found.alive
    assert list((tmp_path / "run").iterdir()) == []
