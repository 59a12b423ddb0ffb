"""What docs/produce.md tells producers to type works as it stands there, and typed again adds nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from libs.testing.platform import RunningPlatform
from tests.e2e.documents import Block, blocks_of, ran, shell_environment

pytestmark = pytest.mark.heavy

BLOCKS: Final = blocks_of("docs/produce.md")
NEEDS: Final = {"curl": "curl", "redis-cli": "redis-cli", "Node": "npm"}
"""Programs that no wheel brings, by the section that needs them."""
PACKAGES: Final = Path(__file__).parent / "node"
LANDED: Final = {
    "curl": (4, Decimal("28.50")),
    "redis-cli": (3, Decimal("32.40")),
    "Python": (1200, Decimal("1500.00")),
    "Node": (3, Decimal("13.84")),
}
"""Orders of each section and what they are worth. redis-cli: one of four was refused, one of the others corrected."""
WITHOUT_A_KEY: Final = 1
"""A request of curl's has no Idempotency-Key: sent again it is another event, of the same order."""


def of(heading: str) -> list[Block]:
    return [block for block in BLOCKS if block.heading == heading]


def able(section: str) -> None:
    """Skips the test where a program is missing."""
    if section in NEEDS and shutil.which(NEEDS[section]) is None:
        pytest.skip(
            f"no {NEEDS[section]} on PATH: docs/produce.md is NOT tested (apt-get install redis-tools curl npm)"
        )


@dataclass(frozen=True)
class Desk:
    """Where a producer sits: the platform, the shell's environment after the first block, and a folder."""

    platform: RunningPlatform
    environment: dict[str, str]
    folder: Path

    def types(self, heading: str) -> str:
        able(heading)
        return "".join(ran(block, environment=self.environment, folder=self.folder) for block in of(heading))

    def landed(self, customer: str) -> tuple[int, Decimal]:
        self.platform.settle()
        (row,) = self.platform.ask(
            "SELECT count(*) AS orders, coalesce(sum(amount), 0)::VARCHAR AS total "
            f"FROM staging.orders WHERE customer_id = '{customer}'"
        )
        return row["orders"], Decimal(row["total"])


@pytest.fixture(scope="module")
def desk(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    first = of("Producing")[0]
    environment = shell_environment(platform.environment)
    told = ran(replace(first, text=first.text + "env -0"), environment=environment, folder=Path())
    environment = dict(pair.split("=", 1) for pair in told.split("\0") if "=" in pair)
    return Desk(platform, environment, tmp_path_factory.mktemp("producer"))


@pytest.fixture
def node(desk: Desk) -> Iterator[Desk]:
    """A folder with the npm packages that the document names, in the versions of the lock beside this test."""
    able("Node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, desk.folder)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", f"--cache={desk.folder / 'npm'}"]
    subprocess.run(["npm", "ci", *quiet], cwd=desk.folder, check=True, capture_output=True, timeout=240)
    yield desk
    shutil.rmtree(desk.folder / "node_modules")


@pytest.mark.parametrize("section", ["curl", "redis-cli", "Python"])
def test_a_section_lands_what_it_says(desk: Desk, section: str) -> None:
    desk.types(section)

    assert desk.landed({"redis-cli": "cli", "Python": "py"}.get(section, section)) == LANDED[section]


def test_node_lands_what_it_says(node: Desk) -> None:
    node.types("Node")

    assert node.landed("node") == LANDED["Node"]


def test_node_needs_no_other_packages_than_the_document_names() -> None:
    (named,) = re.findall(
        r"`npm install ([\w ]+)`", (Path(__file__).parents[2] / "docs/produce.md").read_text()
    )

    assert sorted(json.loads((PACKAGES / "package.json").read_text())["dependencies"]) == sorted(
        named.split()
    )


def test_what_the_contract_refuses_is_kept_with_its_reason(desk: Desk) -> None:
    said: list[dict[str, Any]] = desk.platform.json("quarantine", "ls")

    assert [(one["event_id"], one["field"]) for one in said] == [("4", "amount")]


def test_files_pipes_and_apis(desk: Desk) -> None:
    desk.types("Files, pipes and APIs")

    assert desk.landed("file") == (1, Decimal("3.00"))
    assert desk.landed("pipe") == (1, Decimal("4.00"))
    (row,) = desk.platform.rows(
        "SELECT count(*) AS orders FROM raw.orders_raw WHERE source_system LIKE '%/v1/orders'"
    )
    assert row["orders"] == 20


def test_what_became_of_it(desk: Desk) -> None:
    said = desk.types("What became of it")

    assert "py-17/1" in said
    assert "1500.00" in said


def test_typed_again_it_adds_duplicates_and_nothing_else(desk: Desk) -> None:
    """Lost replies are answered by sending again: another `time`, the same identity, the same contents."""
    before = desk.platform.ledger()
    for section in ("curl", "redis-cli", "Python"):
        desk.types(section)
    desk.platform.settle()
    after = desk.platform.ledger()

    assert after.accepted - before.accepted == WITHOUT_A_KEY
    assert after.conflicts == 0
    assert after.unaccounted == 0
    assert desk.landed("py") == LANDED["Python"]
    assert desk.landed("cli") == LANDED["redis-cli"]
