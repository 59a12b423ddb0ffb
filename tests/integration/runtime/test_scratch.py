"""A container's temporary files, on a volume that others use too: each container is a process here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from libs.runtime.scratch import take

WRITES = "import tempfile; print(tempfile.mkstemp()[1], flush=True); input()"


class Container:
    """One that has written a temporary file and waits for a line."""

    def __init__(self, home: Path, tmp: Path) -> None:
        self.environment = {**os.environ, "DRP_HOME": str(home), "TMPDIR": str(tmp / "disk")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "libs.runtime.scratch", sys.executable, "-c", WRITES],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def file(self) -> Path:
        """Where it is in truth."""
        assert self.process.stdout is not None
        return Path(self.process.stdout.readline().strip()).resolve(strict=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[[], Container]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "volume"


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started() -> Container:
            tmp = tmp_path / f"tmp-{len(list(tmp_path.iterdir()))}"
            tmp.mkdir()
            container = Container(home, tmp)
            stack.callback(container.kill)
            return container

        yield started


def entries(home: Path) -> set[Path]:
    return set((home / "tmp").iterdir())


def test_each_has_a_folder_of_its_own_on_the_volume(home: Path, start: Start) -> None:
    started = [start() for _ in range(5)]
    files = [container.file() for container in started]

    assert {file.parent.parent for file in files} == {home / "tmp"}
    assert {file.parent for file in files} == entries(home)
    assert len(entries(home)) == 5


def test_what_is_run_in_it_later_finds_the_same_folder(start: Start) -> None:
    container = start()
    folder = container.file().parent
    looked = "import os, tempfile; print(os.path.realpath(tempfile.gettempdir()))"
    found = subprocess.run(
        [sys.executable, "-c", looked],
        env=container.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(folder)


def test_what_a_killed_one_left_is_removed_and_what_is_in_use_stays(home: Path, start: Start) -> None:
    living, killed = start(), start()
    kept, left = living.file(), killed.file()
    killed.kill()
    next_one = start().file()

    assert not left.parent.exists()
    assert kept.exists()
    assert entries(home) == {kept.parent, next_one.parent}


def test_one_that_starts_again_starts_with_an_empty_folder(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "disk"
    os.close(take(home, link))
    (link / "left").write_text("x")
    lock = take(home, link)
    try:
        assert [path.name for path in link.iterdir()] == [".in-use"]
        assert list(home.iterdir()) == [link.resolve()]
    finally:
        os.close(lock)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    return subprocess.run(
        [sys.executable, "-m", "libs.runtime.scratch", sys.executable, "-c", code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_takes_its_place() -> None:
    done = run("import sys; sys.exit(7)")
    assert (done.returncode, done.stderr) == (7, "")


def test_a_volume_that_takes_nothing_keeps_nobody_from_starting(home: Path, tmp_path: Path) -> None:
    home.write_text("no folder")
    done = run("print('up')", DRP_HOME=str(home), TMPDIR=str(tmp_path / "disk"))
    assert (done.returncode, done.stdout) == (0, "up\n")
    assert done.stderr.startswith("temporary files are in memory")
