"""The map stays true: what the tree, the tables and the README promise of each other."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import libs
import services
from libs.contracts import events, streams
from libs.datasets import load_datasets

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/app.py"))
SOURCES = sorted(
    path for folder in ("libs", "services", "tests", "deploy") for path in (ROOT / folder).rglob("*.py")
)
BANNED = {"utils", "common", "helpers", "manager", "base", "misc"}
MODULES = sorted(
    module.name
    for package in (libs, services)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


def test_every_event_has_a_stream_and_every_stream_a_group() -> None:
    assert set(streams.STREAMS) == set(events.EVENT_TYPES.values())
    assert set(streams.GROUPS) == set(streams.STREAMS.values())
    assert all(groups for groups in streams.GROUPS.values())


def test_every_consumer_group_is_a_service_with_its_name() -> None:
    groups = {name for names in streams.GROUPS.values() for name in names} | set(streams.DATASET_GROUPS)
    assert groups <= set(SERVICES)


def test_audit_hears_every_pipeline_event() -> None:
    assert all("audit" in groups for groups in streams.GROUPS.values())


def test_every_dataset_has_its_contract_its_staging_and_a_mart() -> None:
    datasets = load_datasets()
    assert datasets
    for name, dataset in datasets.items():
        folder = ROOT / "libs" / "datasets" / name
        assert (folder / "contract.yaml").is_file()
        assert (folder / "staging.sql").is_file()
        assert set(dataset.marts) == {path.stem for path in (folder / "marts").glob("*.sql")} != set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_row_in_the_readme(service: str) -> None:
    assert f"| `{service}` |" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_declares_it_has(name: str) -> None:
    module = importlib.import_module(name)
    assert all(hasattr(module, declared) for declared in getattr(module, "__all__", ()))


def test_no_file_outgrows_its_room() -> None:
    assert {
        str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 400
    } == {}


def test_nothing_has_a_name_that_says_nothing() -> None:
    assert [path for path in SOURCES if BANNED & {path.stem, path.parent.name}] == []


def test_locks_pin_by_hash_and_name_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert len(re.findall(r"^[a-z0-9].*==", text, re.M)) <= text.count("--hash=sha256:")
    assert not (ROOT / "uv.lock").exists()


def test_importing_the_house_reads_no_environment_and_connects_nowhere() -> None:
    """Every module is imported in a process whose sockets and environment are booby-trapped."""
    program = f"""
import importlib, os, socket, sys
def no(*args, **kwargs): raise AssertionError("on import")
names = {[name for name in MODULES if not name.endswith("__main__")]!r}
import asyncio, click, typer, uvicorn, fastapi, redis, asyncpg  # their own habits are not ours
socket.socket.connect = no
class Watched(type(os.environ)):
    def __getitem__(self, key):
        if key.startswith("DRP_"): no()
        return super().__getitem__(key)
os.environ.__class__ = Watched
for name in names: importlib.import_module(name)
"""
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
