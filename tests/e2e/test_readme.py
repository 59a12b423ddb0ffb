"""What README and docs/tour.md tell people to type works as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from libs.testing.platform import RunningPlatform

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
README, TOUR = ((ROOT / name).read_text() for name in ("README.md", "docs/tour.md"))
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README + TOUR, re.M | re.S)

VARIES: Final = re.compile(
    r"\d\d:\d\d:\d\d|[0-9a-f]{32}|[0-9a-f]{8}-|^(entry|objects|bytes|batches|generation) |^flow name|15,659"
)
"""Lines that differ from run to run: moments, ids, and how the rows came to lie in batches and generations."""
MOST_OF_IT: Final = 20


def block(beginning: str) -> str:
    (found,) = [str(text) for text in BLOCKS if text.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """Not started: README does that."""
    platform = RunningPlatform(tmp_path_factory.mktemp("readme") / ".drp")
    yield platform
    platform.stop()


@pytest.fixture
def toured(tmp_path: Path) -> Iterator[RunningPlatform]:
    """As the tour begins."""
    platform = RunningPlatform(tmp_path / ".drp")
    typed(platform, "\n".join(re.findall(r"`(drp [^`]+)`", TOUR.partition("```")[0].replace("\n", " "))))
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


def test_the_way_to_an_orders_life(platform: RunningPlatform) -> None:
    script = block("make install")
    lines = [line for line in script.splitlines() if not line.startswith(("make install", "export PATH"))]
    said = typed(platform, "\n".join(lines))

    assert "MINE-1" in said
    assert re.search(r"^place +staged$", said, re.M)
    address = said.splitlines()[-1]
    page = httpx.get(address, trust_env=False).raise_for_status().text
    assert "Readers see it, since generation" in page


def test_the_tour(toured: RunningPlatform) -> None:
    """What it prints beside times, ids and versions is what it shows."""
    (shown,) = re.findall(r"They say .*?```text\n(.*?)^```$", TOUR, re.M | re.S)

    said = typed(toured, "exec 2>&1\n" + block("drp batches ls")).splitlines()

    same = [line for line in shown.splitlines() if line and not VARIES.search(line)]
    assert len(same) > MOST_OF_IT
    assert [line for line in same if line not in {each.rstrip() for each in said}] == []


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
