"""What an earlier version wrote, this one opens: it is made by that version's own code, out of the history."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from libs.testing.platform import RunningPlatform

pytestmark = pytest.mark.heavy

ROOT: Final = Path(__file__).parents[2]
EARLIER: Final = "6964a77611347e6dc6b487f8a40c760e732f94d0"
FIGURES: Final = """
SELECT order_date::VARCHAR AS day, total_orders, total_amount::VARCHAR AS total
FROM analytics.daily_order_metrics ORDER BY order_date
"""
ORDERS: Final = """\
order_id,customer_id,amount,created_at
A-1,C-1,10.50,2026-01-05T09:30:00Z
A-2,C-1,20.25,2026-01-05T09:31:00Z
A-3,C-2,0.10,2026-01-06T00:00:00.250001Z
A-4,C-2,ten,2026-01-06T00:00:00Z
"A-5,C-2,1.00,2026-01-06T00:00:00Z
"""
HELD: Final = "order_id,customer_id,amount,created_at\nB-1,C-3,5.00,2026-01-08T00:00:00Z\n"
LATER: Final = "order_id,customer_id,amount,created_at\nC-1,C-3,7.00,2026-01-09T00:00:00Z\n"


@dataclass(frozen=True)
class Upgraded:
    """The platform of today on the data of the earlier version, and what that one told of them."""

    platform: RunningPlatform
    folder: Path
    told: dict[str, Any]


ASKED: Final = {
    "figures": ("sql", FIGURES),
    "ledger": ("ledger", "show"),
    "quarantine": ("quarantine", "ls"),
    "held": ("batches", "ls", "--status", "held"),
    "generations": ("warehouse", "ls"),
    "archive": ("archive", "ls"),
}


@pytest.fixture(scope="module")
def earlier_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the earlier version, unpacked."""
    packed = subprocess.run(
        ["git", "archive", "--format=tar", EARLIER, "libs", "services", "deploy"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if packed.returncode != 0:
        pytest.skip(
            f"no history here with {EARLIER[:7]} in it: the upgrade is NOT tested (git fetch --unshallow)"
        )
    folder = tmp_path_factory.mktemp("earlier")
    # not tarfile: Python 3.11.0 to 3.11.3 don't know the filter that 3.12 warns without
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


def importing_from(tree: Path) -> dict[str, str]:
    """Neither the folder that we are in nor what is installed comes before the tree."""
    return {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}


@pytest.fixture(scope="module")
def upgraded(earlier_code: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    folder = tmp_path_factory.mktemp("upgrade")
    for name, text in (("orders", ORDERS), ("held", HELD), ("later", LATER)):
        (folder / f"{name}.csv").write_text(text)
    earlier = RunningPlatform(folder / ".drp", importing_from(earlier_code))
    try:
        earlier.start()
        earlier.drp("publish", "--file", str(folder / "orders.csv"))
        earlier.drp("batches", "wait", "--all")
        earlier.drp("publish", "--file", str(folder / "held.csv"))
        earlier.drp("batches", "wait", "--all")
        earlier.drp("batches", "hold", "last", "--reason", "a test", "--yes")
        earlier.drp("batches", "wait", "--all")
        told = {name: earlier.json(*arguments) for name, arguments in ASKED.items()}
    finally:
        earlier.stop()
    platform = RunningPlatform(earlier.home)
    platform.start()
    yield Upgraded(platform, folder, told)
    platform.stop()


def test_the_data_were_made_by_the_earlier_code(upgraded: Upgraded, earlier_code: Path) -> None:
    """And they are worth looking at: of every kind something."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import libs, services; print(libs.__file__, services.__file__)"],
        env=importing_from(earlier_code),
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(earlier_code)) for path in loaded.stdout.split())
    assert {name for name, rows in upgraded.told.items() if not rows} == set()


@pytest.mark.parametrize("asked", ASKED)
def test_all_is_found_again(upgraded: Upgraded, asked: str) -> None:
    """What is told today holds what was told then; later versions may tell more."""
    now = upgraded.platform.json(*ASKED[asked])
    then = upgraded.told[asked]
    assert len(now) == len(then)
    assert [{name: new.get(name) for name in old} for old, new in zip(then, now, strict=True)] == then


def test_every_migration_has_run(upgraded: Upgraded) -> None:
    files = {path.stem for path in (ROOT / "deploy" / "migrations").glob("*.sql")}
    rows = upgraded.platform.rows("SELECT migration_id FROM _yoyo_migration")
    assert {row["migration_id"] for row in rows} == files


def test_the_archive_and_what_was_built_from_it_are_as_they_should_be(upgraded: Upgraded) -> None:
    assert upgraded.platform.json("archive", "verify")["problems"] == []
    assert upgraded.platform.json("replay", "--verify")["identical"] is True
    assert upgraded.platform.ledger().problems == []


def test_it_goes_on(upgraded: Upgraded) -> None:
    platform = upgraded.platform
    before = platform.ledger()
    platform.drp("publish", "--file", str(upgraded.folder / "orders.csv"))
    platform.drp("publish", "--file", str(upgraded.folder / "later.csv"))
    platform.drp("batches", "release", upgraded.told["held"][0]["id"], "--reason", "a test")
    platform.settle()

    after = platform.ledger()
    assert (after.accepted, after.duplicate) == (before.accepted + 1, before.duplicate + 3)
    assert (after.held, after.problems) == (0, [])
    days = {row["day"]: row["total"] for row in platform.ask(FIGURES)}
    assert (days["2026-01-08"], days["2026-01-09"]) == ("5.00", "7.00")
    assert platform.json("archive", "verify")["problems"] == []
