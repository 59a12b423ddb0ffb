"""The deployed platform for a test: docker-compose.yml as a user starts it, under a project name of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["ROOT", "Said", "Stack", "compose_command", "engine"]

ROOT: Final = Path(__file__).parents[2]
SHIM: Final = """\
#!/bin/sh
[ "$1" = compose ] || exec {docker} "$@"
shift
case $1 in
    exec | run) command=$1; shift; [ "$1" = -T ] || set -- -T "$@"; exec {ours} "$command" "$@" ;;
    *) exec {ours} "$@" ;;
esac
"""
Said = subprocess.CompletedProcess[str]


def engine(*arguments: str, expect: int | None = 0, timeout: float = 120) -> Said:
    """docker with these arguments; expect=None: any exit code."""
    return _run(["docker", *arguments], env=dict(os.environ), expect=expect, timeout=timeout)


def compose_command() -> list[str] | None:
    """Compose of either age, as it is called here; None: neither is installed."""
    if shutil.which("docker") and engine("compose", "version", expect=None).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Stack:
    """One project.

    Args:
        project: its name; containers, volumes and networks bear it.
        folder: where its settings (an .env file) lie; a developer's own are not read.
        settings: of the .env file.
    """

    def __init__(self, project: str, folder: Path, settings: Mapping[str, str]) -> None:
        command = compose_command()
        assert command is not None, "neither docker compose nor docker-compose is installed"
        self.project = project
        self._command = command
        self._settings = dict(settings)
        self._env_file = folder / f"{project}.env"

    def compose(
        self,
        *arguments: str,
        stdin: IO[bytes] | None = None,
        settings: Mapping[str, str] | None = None,
        files: Sequence[str] = ("docker-compose.yml",),
        expect: int | None = 0,
        timeout: float = 300,
    ) -> Said:
        """compose with these arguments, and with settings on top of the project's."""
        told = self._settings | dict(settings or {})
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in told.items()))
        command = [*self._project(*files), *arguments]
        return _run(command, env=_outside(), expect=expect, timeout=timeout, stdin=stdin)

    def _project(self, *files: str) -> list[str]:
        chosen = [part for file in files for part in ("-f", str(ROOT / file))]
        return [*self._command, "--env-file", str(self._env_file), "-p", self.project, *chosen]

    def drp(
        self,
        *arguments: str,
        service: str = "generator",
        stdin: IO[bytes] | None = None,
        expect: int | None = 0,
        timeout: float = 300,
    ) -> Said:
        """`docker compose exec SERVICE drp …`."""
        return self.compose(
            "exec", "-T", service, "drp", *arguments, stdin=stdin, expect=expect, timeout=timeout
        )

    def json(self, *arguments: str, service: str = "generator", expect: int = 0) -> Any:
        return json.loads(self.drp(*arguments, "--json", service=service, expect=expect).stdout)

    @contextmanager
    def running(self, *arguments: str, stdin: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        """`drp` in the generator, while the block goes on."""
        (container,) = self.containers("generator")
        command = ["docker", "exec", "-i", container, "drp", *arguments]
        with subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def postgres(self, query: str) -> str:
        """What the database answers, a line a row."""
        read = 'psql --no-psqlrc -At "$(cat /run/drp-secrets/postgres_url)" -c "$0"'
        command = ("sh", "-c", read, query)
        return self.compose("exec", "-T", "postgres", *command).stdout.strip()

    def settle(self) -> None:
        """Until nothing is in flight, pending, unpublished or unarchived."""
        self.drp("batches", "wait", "--all", "--timeout", "200")

    def shell(self, script: str, folder: Path) -> Said:
        """Run lines as a user types them into a shell here; `docker compose` is this project's, without a terminal."""
        ours = shlex.join(self._project("docker-compose.yml"))
        shim = folder / "docker"
        shim.write_text(SHIM.format(ours=ours, docker=shutil.which("docker")))
        shim.chmod(0o755)
        outside = _outside()
        env = {**outside, "PATH": f"{folder}:{outside['PATH']}"}
        return _run(["bash", "-euo", "pipefail", "-c", script], env=env, expect=None, timeout=300)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).stdout.split()

    def inspect(self, container: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(engine("inspect", container).stdout)
        return found[0]

    def left_behind(self) -> list[str]:
        """What the engine still has of the project."""
        mine = f"label=com.docker.compose.project={self.project}"
        listed = [
            engine("ps", "--all", "--quiet", "--filter", mine),
            engine("volume", "ls", "--quiet", "--filter", mine),
            engine("network", "ls", "--quiet", "--filter", mine),
        ]
        return [name for each in listed for name in each.stdout.split()]


def _outside() -> dict[str, str]:
    """The environment without settings of ours: they would win over the file's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DRP_")}


def _run(
    command: Sequence[str],
    *,
    env: dict[str, str],
    expect: int | None,
    timeout: float,
    stdin: IO[bytes] | None = None,
) -> Said:
    done = subprocess.run(
        command,
        env=env,
        cwd=ROOT,
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    said = f"{done.stdout[-3000:]}{done.stderr[-5000:]}"
    assert expect is None or done.returncode == expect, f"{' '.join(command)}: {done.returncode}\n{said}"
    return done
