"""What README tells people to type works as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.testing.platform import RunningPlatform

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)


def block(beginning: str) -> str:
    (found,) = [str(text) for text in BLOCKS if text.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """Not started: README does that."""
    platform = RunningPlatform(tmp_path_factory.mktemp("readme") / ".drp")
    yield platform
    platform.stop()


def typed(platform: RunningPlatform, script: str) -> str:
    """Run lines in a shell, as typed in the project's folder; the first that fails fails the test."""
    environment = {
        **platform.environment,
        "PATH": f"{Path(sys.executable).parent}:{platform.environment['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_try_it(platform: RunningPlatform) -> None:
    script = block("make install")
    lines = [line for line in script.splitlines() if not line.startswith(("make install", "export PATH"))]
    assert lines[-1] == "drp down"

    said = typed(platform, "\n".join(lines[:-1]))

    assert "1997-01-01" in said
    assert "7515.35" in said
    assert "validate" in said
    assert "69,659" in said


def test_publish_from_anything(platform: RunningPlatform) -> None:
    if shutil.which("redis-cli") is None or shutil.which("curl") is None:
        pytest.skip(
            "no redis-cli or no curl on PATH: README's producers are NOT tested (apt-get install redis-tools curl)"
        )
    typed(platform, block('eval "$(drp env)"'))
    platform.settle()

    found = platform.ask(
        "SELECT source_order_id, amount::VARCHAR AS amount FROM staging.orders WHERE customer_id = 'C-1'"
    )
    assert sorted((row["source_order_id"], row["amount"]) for row in found) == [
        ("A-1", "19.90"),
        ("A-2", "5.00"),
    ]


def test_the_first_block_is_the_two_commands() -> None:
    assert [line.split("#")[0].strip() for line in BLOCKS[0].splitlines()] == ["make demo", "make test"]
