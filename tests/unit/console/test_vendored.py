"""What is vendored for the browser is what its manifest says, with its licence; nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.console.drawing import STATIC, static_files

VENDOR = STATIC / "vendor"
FOR_TESTS = Path(__file__).parents[2] / "e2e" / "console" / "vendor"
ENTRIES: list[tuple[Path, dict[str, Any]]] = [
    (folder, entry)
    for folder in (VENDOR, FOR_TESTS)
    for entry in json.loads((folder / "manifest.json").read_text())
]
TEMPLATES = sorted((STATIC.parent / "templates").glob("*.html"))
OWN = sorted(path for path in STATIC.iterdir() if path.suffix in {".js", ".css"})


@pytest.mark.parametrize(("folder", "entry"), ENTRIES, ids=[entry["file"] for _, entry in ENTRIES])
def test_a_vendored_file_has_the_hash_and_the_licence_that_the_manifest_says(
    folder: Path, entry: dict[str, Any]
) -> None:
    assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert (folder / entry["licence_file"]).stat().st_size > 200
    assert entry["version"] in entry["file"]


@pytest.mark.parametrize("folder", [VENDOR, FOR_TESTS], ids=["of the console", "of its tests"])
def test_nothing_is_vendored_that_the_manifest_does_not_name(folder: Path) -> None:
    named = {entry[name] for where, entry in ENTRIES if where == folder for name in ("file", "licence_file")}
    assert {path.name for path in folder.iterdir()} == named | {"manifest.json"}


@pytest.mark.parametrize("path", [*TEMPLATES, *OWN], ids=lambda path: path.name)
def test_nothing_of_ours_names_another_host(path: Any) -> None:
    assert re.findall(r"(?:https?:)?//[a-z0-9][\w.-]+\.[a-z]{2,}", path.read_text()) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_a_script_or_a_style_in_it(path: Any) -> None:
    text = path.read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on|js:|javascript:", text) == []


def test_what_a_browser_fetches_is_small() -> None:
    import gzip

    scripts = {name: file for name, file in static_files().items() if name.endswith((".js", ".css"))}
    assert sum(len(gzip.compress(file.content)) for file in scripts.values()) < 50_000
