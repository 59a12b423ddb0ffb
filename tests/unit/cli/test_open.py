"""drp open: which page is meant; and where no console runs, what is missing, and no browser is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.errors import Permanent
from libs.runtime.processes import free_port
from services.cli.commands.console import batch_page, last_page
from tests.unit.cli.calling import Drp


@pytest.fixture(autouse=True)
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that writes down what it is shown."""
    seen = tmp_path / "seen"
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" >> {seen}\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{program} %s")
    return seen


def test_without_a_platform_it_says_how_to_start_one(drp: Drp, browser: Path) -> None:
    said = drp("open", "batches")
    assert (said.code, said.out) == (5, "")
    assert "no console to open: nothing runs in" in said.err
    assert "Try: drp up --detach" in said.err
    assert not browser.exists()


def test_a_console_that_is_away_is_named(drp: Drp, browser: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("DRP_CONSOLE_URL", url)
    said = drp("open", "--json")
    assert (said.code, said.out) == (5, "")
    assert f"the console does not answer at {url}: " in said.err
    assert "Connection refused" in said.err
    assert not browser.exists()


def test_the_start_of_several_batches_is_the_list_of_them() -> None:
    first, second = "3f2a0000-0000-4000-8000-000000000001", "3f2a0000-0000-4000-8000-000000000002"
    assert batch_page("3f2a", [second, first]) == "/batches?id=3f2a"
    assert batch_page("3f2a", [first]) == f"/batches/{first}"
    assert batch_page("3f2a", []) is None


def test_where_batches_could_not_be_asked_for_only_a_whole_id_is_one() -> None:
    whole = "3f2a0000-0000-4000-8000-000000000001"
    assert batch_page(whole, None) == f"/batches/{whole}"
    assert batch_page("3f2a", None) is None
    assert last_page(None) == "/batches/last"


def test_without_a_batch_there_is_no_last_one() -> None:
    with pytest.raises(Permanent, match="there is no batch yet"):
        last_page([])
