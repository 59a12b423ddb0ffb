"""`drp demo` tells its story, and every invariant holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libs.testing.platform import RunningPlatform

pytestmark = pytest.mark.heavy

PROMISED = {
    "published", "accepted", "duplicate", "quarantined", "dead_lettered", "unaccounted", "conflicts", "rejected",
    "held", "generations_published", "generations_blocked", "archive_objects", "archive_verified",
    "replay_identical", "seconds",
}  # fmt: skip


def test_the_demo_holds_every_invariant_and_leaves_nothing_running(tmp_path: Path) -> None:
    platform = RunningPlatform(tmp_path / "unused")
    said = platform.drp("demo", "--folder", str(tmp_path))

    report = json.loads((tmp_path / "demo-report.json").read_text())
    assert report.keys() >= PROMISED
    assert report["passed"]
    assert report["unaccounted"] == report["dead_lettered"] == 0
    parts = ("accepted", "duplicate", "quarantined", "dead_lettered")
    assert report["published"] == sum(report[name] for name in parts)
    assert report["archive_verified"]
    assert report["replay_identical"]
    assert report["generations_blocked"] == 1
    assert report["held"] == 200
    assert "look around:" in said

    left = RunningPlatform(tmp_path / "demo").json("status", expect=5)
    assert left["running"] is False
