"""The deployed form: an engine, images, and one stack for the tests of a module.

DRP_COMPOSE_IMAGES says with which images: `real` pulls those that docker-compose.yml names, `stand-in` makes others
from Debian's packages (tests/compose/standins). Unset: these tests are left out, and that is said.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.compose.stack import ROOT, Stack, compose_command, engine

NewStack = Callable[..., Stack]

HERE = Path(__file__).parent
HOW = "make compose-test runs it where a Docker engine answers; as root on Debian after tests/compose/engine.sh start"
ANY_FREE_PORT = {"DRP_GENERATOR_PORT": "", "DRP_JAEGER_PORT": "", "DRP_CONSOLE_PORT": ""}


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The settings that name the images."""
    kind = os.environ.get("DRP_COMPOSE_IMAGES", "")
    if not kind:
        pytest.skip(f"the deployed form, docker compose ({HOW})")
    if shutil.which("docker") is None or engine("info", expect=None).returncode != 0:
        pytest.skip(f"the deployed form: no Docker engine answers ({HOW})")
    if compose_command() is None:
        pytest.skip(f"the deployed form: neither docker compose nor docker-compose is installed ({HOW})")
    assert kind in ("real", "stand-in"), f"DRP_COMPOSE_IMAGES is real or stand-in, not {kind}"
    return _stand_ins() if kind == "stand-in" else {"DRP_IMAGE": "drp-test/platform"}


def _stand_ins() -> dict[str, str]:
    built = subprocess.run([HERE / "standins" / "build.sh"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-5000:]
    named = dict(line.split("=", 1) for line in built.stdout.splitlines())
    return {"DRP_IMAGE": "drp-test/platform:stand-in", **named}


@pytest.fixture(scope="module")
def new_stack(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewStack]:
    """Stacks of the module's own, not started; nothing of them is left after it."""
    with ExitStack() as stack:

        def make(**settings: str) -> Stack:
            project = f"drp-test-{secrets.token_hex(4)}"
            folder = tmp_path_factory.mktemp("compose")
            made = Stack(project, folder, {**images, **ANY_FREE_PORT, **settings})
            stack.callback(_gone, made)
            return made

        yield make


def _gone(stack: Stack) -> None:
    stack.compose("down", "--volumes", "--remove-orphans", expect=None)
    left = stack.left_behind()
    assert left == [], f"{stack.project} left behind: {left}"


@pytest.fixture(scope="session")
def real_orders() -> Path:
    return ROOT / "tests" / "data" / "cdnow_orders.csv.gz"
