"""What is missing on a machine is named with the command that fixes it, by a script that an old Python can read."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "preflight.py"


@pytest.fixture
def preflight() -> ModuleType:
    spec = importlib.util.spec_from_file_location("preflight", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_machine_is_fit_for_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--json", tmp_path], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"[]\n", b"")


def test_an_old_python_can_read_it() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("version", [(3, 6), (3, 10)])
def test_an_old_python_is_told_of_a_newer_one(
    preflight: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
) -> None:
    monkeypatch.setattr(
        preflight.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "python3.12" else None
    )
    problem, fix = preflight.python_version(version)
    assert f"Python {version[0]}.{version[1]} is too old" in problem
    assert fix == "make PYTHON=python3.12 install"


def test_a_newer_python_than_we_know_is_fine(preflight: ModuleType) -> None:
    assert preflight.python_version((3, 19)) is None


def test_debian_without_the_venv_package_is_told_its_name(
    preflight: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight.platform, "system", lambda: "Linux")
    monkeypatch.setattr(preflight.shutil, "which", lambda name: f"/usr/bin/{name}")
    problem, fix = preflight.venv_module(lambda name: name != "ensurepip")
    assert "lacks ensurepip" in problem
    assert "apt-get install python3-venv" in fix


def test_a_full_disk_is_told(preflight: ModuleType) -> None:
    assert "only 1.0 GB are free" in preflight.disk("/", free=1024**3)[0]
    assert preflight.disk("/", free=3 * 1024**3) is None


def test_windows_is_sent_to_wsl_and_musl_to_compose(
    preflight: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "wsl --install" in preflight.operating_system("Windows")[1]
    monkeypatch.setattr(preflight.platform, "system", lambda: "Linux")
    assert preflight.c_library("musl")[1] == "docker compose up -d"
    assert preflight.c_library("glibc") is None


def test_what_is_missing_ends_it_with_one_and_says_the_fix(
    preflight: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "operating_system", lambda: ("it is odd", "make it even"))
    assert preflight.main([]) == 1
    assert capsys.readouterr().err == "it is odd\n  fix: make it even\n"
