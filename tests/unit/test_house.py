"""The map stays true: what the tree, the tables and the README promise of each other."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BANNED = {"utils", "common", "helpers", "manager", "base", "misc"}
MODULES = sorted(
    module.name
    for package in (libs, services)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


PURE = sorted(
    path
    for pattern in ("services/*/domain.py", "services/*/domain/**/*.py", "libs/contracts/*.py")
    for path in ROOT.glob(pattern)
)
CLOCK_CHANCE_OR_OUTSIDE: Final = {"os", "secrets", "socket", "subprocess", "time"}
"""Modules that a pure one has no use for."""
ONLY: Final = {
    "random": {"Random"},
    "uuid": {"UUID", "uuid3", "uuid5", "NAMESPACE_DNS", "NAMESPACE_URL", "NAMESPACE_OID", "NAMESPACE_X500"},
}
"""What a pure module may use of a module: not its hidden state, and not what differs from call to call."""
NOW: Final = {"now", "utcnow", "today"}
DATES: Final = {"datetime:datetime", "datetime:date"}
"""Methods that read the clock, and the types that have them."""


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


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "cli"])
def test_every_service_has_a_compose_entry(service: str) -> None:
    """How it must look is told in tests/unit/deploy/test_compose_file.py."""
    assert f"\n  {service}:\n" in (ROOT / "docker-compose.yml").read_text()


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_declares_it_has(name: str) -> None:
    module = importlib.import_module(name)
    assert all(hasattr(module, declared) for declared in getattr(module, "__all__", ()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_links_to_what_is_there(document: Path) -> None:
    dead = []
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", document.read_text()):
        file, _, anchor = target.partition("#")
        path = document.parent / file if file else document
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            dead.append(target)
    assert dead == []


def _anchors(document: Path) -> set[str]:
    """What a heading is called in a link to it."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_shows_as_said_was_said(document: Path) -> None:
    """A word in capitals stands where output was to follow."""
    assert re.findall(r"^```text\n\s*([A-Z_]+)\s*\n```$", document.read_text(), re.M) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_files_that_are_there(document: Path) -> None:
    named = re.findall(r"`((?:libs|services|deploy|tests|docs)/[\w./*-]+)`", document.read_text())
    assert [path for path in named if not any(ROOT.glob(path))] == []


def test_no_file_outgrows_its_room() -> None:
    assert {
        str(p.relative_to(ROOT)): n
        for p in [*SOURCES, *DOCUMENTS]
        if (n := len(p.read_text().splitlines())) > 400
    } == {}


def test_nothing_has_a_name_that_says_nothing() -> None:
    assert [path for path in SOURCES if BANNED & {path.stem, path.parent.name}] == []


def test_locks_pin_by_hash_and_name_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-prefect.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert len(re.findall(r"^[a-z0-9].*==", text, re.M)) <= text.count("--hash=sha256:")
    packages = json.loads((ROOT / "tests/e2e/node/package-lock.json").read_text())["packages"]
    assert [
        name for name, one in packages.items() if name and not one["integrity"].startswith("sha512-")
    ] == []
    assert "://" not in json.dumps(packages)
    assert not (ROOT / "uv.lock").exists()


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".ci/run", "README.md", "docs/testing.md"])
def test_what_is_made_can_be_made(path: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|run: |`)\s*make ([a-z-]+)", (ROOT / path).read_text(), re.M))

    assert named
    assert named <= targets


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


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pure_module_has_no_clock_no_chance_and_no_environment(path: Path) -> None:
    assert list(impurities(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import time as t",
        "from time import monotonic",
        "import os.path",
        "from os import environ",
        "import secrets",
        "import random\nrandom.random()",
        "import random as r\nr.Random()",
        "import random\nchoose = random.choice",
        "from random import shuffle",
        "from random import Random\nRandom()",
        "import uuid\nuuid.uuid4()",
        "from uuid import uuid1",
        "from datetime import datetime\ndatetime.now(tz)",
        "import datetime\ndatetime.datetime.utcnow()",
        "from datetime import date\nfield(default_factory=date.today)",
    ],
)
def test_what_is_impure_is_found(source: str) -> None:
    assert list(impurities(source))


def test_randomness_that_is_handed_in_is_pure() -> None:
    source = "import random\nfrom uuid import uuid5\ndef f(rng: random.Random): return rng.random(), random.Random(7)"
    assert list(impurities(source)) == []


def test_every_service_has_its_layers_named() -> None:
    """A new room is not free of rules because nobody thought of it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = {
        room
        for one in contracts
        if one["type"] == "layers" and one["exhaustive"]
        for room in one["containers"]
    }
    assert layered >= {f"services.{service}" for service in SERVICES} | {"libs"}


def impurities(source: str) -> Iterator[str]:
    """What in a module depends on more than what it is given, with its line."""
    tree = ast.parse(source)
    names = {}
    for node in ast.walk(tree):
        for name, origin in _imported(node):
            names[name] = origin
            module, _, member = origin.partition(":")
            root = module.partition(".")[0]
            if root in CLOCK_CHANCE_OR_OUTSIDE or (member and not _allowed(root, member)):
                yield f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Call) and _is_impure(node, names):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def _imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """A name, and what it stands for: `module`, or `module:member`."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], alias.name
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}:{alias.name}"


def _is_impure(node: ast.Attribute | ast.Call, names: dict[str, str]) -> bool:
    if isinstance(node, ast.Call):
        seeded = node.args or node.keywords
        return not seeded and _origin(node.func, names) == "random:Random"
    module, _, member = _origin(node, names).partition(":")
    reads_clock = node.attr in NOW and _origin(node.value, names) in DATES
    return reads_clock or not _allowed(module, member)


def _origin(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
        return f"{names[node.value.id]}:{node.attr}"
    return ""


def _allowed(module: str, member: str) -> bool:
    return module not in ONLY or member in ONLY[module]
