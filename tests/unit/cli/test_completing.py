"""What the shell offers on TAB where no platform runs: what needs none, and nothing else, without a word."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from libs.operations.reading import STATUSES
from libs.pipeline.refusals import REASONS
from libs.runtime.processes import free_port
from services.cli import completing
from tests.unit.cli.completing import DRP, offered
from tests.unit.cli.test_help import COMMANDS
from tests.unit.cli.test_start import HEAVY

COMPLETED: Final = {"BATCH", "GENERATION", "ID", "[ID]...", "STATUS", "CODE", "WHAT"}
"""What is named so is something that there is: it can be offered."""
LOADED: Final = f"""
import json, sys
from services.cli import app
sys.argv = ["drp"]
try:
    app.main()
except SystemExit:
    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""
BASH: Final = """
eval "$(_DRP_COMPLETE=source_bash drp)"
COMP_WORDS=(drp batches ls --status b) COMP_CWORD=4
_drp_completion drp
printf '%s\\n' "${COMPREPLY[@]}"
"""


def taking() -> Iterator[tuple[str, Any]]:
    for path, command in COMMANDS.items():
        for parameter in command.params:
            named = parameter.metavar in COMPLETED
            if named or (parameter.metavar == "NAME" and parameter.param_type_name == "option"):
                yield f"{path} {parameter.name}", parameter


TAKING: Final = dict(taking())


@pytest.mark.parametrize("name", TAKING)
def test_what_there_is_is_offered_wherever_it_is_taken(name: str) -> None:
    assert TAKING[name]._custom_shell_complete is not None


def test_bash_completes_with_what_drp_tells_it_to() -> None:
    path = f"{DRP.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == (["building", "built", "blocked"], "")


def test_statuses_reasons_and_datasets_need_no_platform() -> None:
    assert list(offered("drp batches ls --status ")) == list(STATUSES)
    assert offered("drp quarantine ls --reason wr") == {"wrong_type": REASONS["wrong_type"]}
    assert "orders" in offered("drp publish --dataset ")


def test_where_nothing_runs_nothing_is_offered_and_nothing_heavy_is_loaded() -> None:
    environment = {**os.environ, "_DRP_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    for words in ("drp batches show ", "drp quality show ", "drp quarantine show ", "drp why "):
        asked = {**environment, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
        done = subprocess.run(
            [sys.executable, "-c", LOADED], env=asked, capture_output=True, text=True, check=True
        )
        assert (done.stdout.strip(), json.loads(done.stderr)) == ("", []), words


def test_what_is_wrong_is_nobody_s_business_who_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        "no url",
        f"postgresql://drp@127.0.0.1:{free_port()}/drp",
        "postgresql://drp@127.0.0.1:x/drp",
    ):
        monkeypatch.setenv("DRP_POSTGRES_URL", url)
        assert offered("drp batches show ") == {}, url
    monkeypatch.setenv("DRP_DATASETS_DIR", "/nowhere")
    assert offered("drp publish --dataset ") == {}


def test_a_server_that_does_not_answer_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "ANSWERS_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DRP_POSTGRES_URL", f"postgresql://drp@127.0.0.1:{silent.getsockname()[1]}/drp")
        began = time.monotonic()
        assert completing.batches("") == []
        assert time.monotonic() - began < 60  # psycopg by itself would wait for minutes
        silent.accept()[0].close()  # it was asked
