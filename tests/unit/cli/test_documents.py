"""Commands and settings that a document names are there: options too."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from pydantic_settings import BaseSettings

from services.cli.app import app

ROOT: Final = Path(__file__).parents[3]
DOCUMENTS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOLD_ELSEWHERE: Final = (
    "libs/**/*.py",
    "services/**/*.py",
    "tests/*.py",
    "tests/compose/*.*",
    ".env.example",
)
"""Where a setting stands that is no field of a service's settings."""

_DRP: Final = re.compile(r"(?:\bdrp|(?<=/)drp) ((?:[a-z-]+)\b[^`\n|;&>]*)")
_CODE: Final = re.compile(r"^```sh\n(.*?)^```$|`([^`\n]+)`", re.M | re.S)
_SETTING: Final = re.compile(r"\bDRP_[A-Z0-9_]*[A-Z0-9]\b(?!_?[*…])")


def code_of(document: Path) -> str:
    """What stands in its blocks of shell, and between backticks; but for what Prefect's command is told of a pool."""
    code = "\n".join(block or words for block, words in _CODE.findall(document.read_text()))
    return "\n".join(line for line in code.splitlines() if not line.startswith("prefect "))


def unknown(line: str) -> Iterator[str]:
    """What of a command's words is neither a command nor one of its options."""
    command: Any = typer.main.get_command(app)
    words = [word.strip("'\"") for word in line.replace('"', " ").split()]
    while words and hasattr(command, "commands") and re.fullmatch(r"[a-z]+", words[0]):
        if words[0] not in command.commands:
            yield f"drp {line}: {words[0]}"
            return
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    yield from (
        f"drp {line}: {word}"
        for word in words
        if word.startswith("-") and word != "-" and word.partition("=")[0] not in options
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_names_is_there(document: Path) -> None:
    lines = _DRP.findall(code_of(document))
    assert [found for line in lines for found in unknown(line)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_a_document_names_is_there(document: Path) -> None:
    named = {name.removesuffix("_FILE") for name in _SETTING.findall(document.read_text())}
    assert named - settings() == set()


def settings() -> set[str]:
    found = set()
    for path in [*ROOT.glob("services/*/settings.py"), *ROOT.glob("libs/runtime/*settings.py")]:
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, BaseSettings):
                found |= {f"DRP_{name.upper()}" for name in each.model_fields}
    for pattern in TOLD_ELSEWHERE:
        for path in ROOT.glob(pattern):
            found |= set(_SETTING.findall(path.read_text()))
    return found


@pytest.mark.parametrize("line", ["batch ls", "batches lst", "batches ls --state open", "up --detached"])
def test_what_is_not_there_is_found(line: str) -> None:
    assert list(unknown(line))
