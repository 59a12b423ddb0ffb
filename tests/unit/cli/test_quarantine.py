"""What drp quarantine does not take is said before a platform is asked."""

from __future__ import annotations

import shlex

import pytest

from tests.unit.cli.calling import Drp


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("redrive", "say which"),
        ("redrive 1 --all", "say which"),
        ("redrive 1 --batch last", "say which"),
        ("discard 1", "--because"),
        ("discard 1 --because x --reason 'test data'", "Why you do it: --because"),
        ("ls --reason nope", "no reason code"),
        ("ls --state nope", "nope"),
        ("fix 1", "say what to correct"),
        ("fix 1 --set amount", "'amount' is not FIELD=VALUE"),
        ("fix 1 --set a=1 --set a=2", "a is given twice"),
        ("fix 1 --set amount=1 --redrive", "say --yes"),
        ("fix 1 --edit --file x", "one of them"),
        ("show 1 --json --original", "only one of"),
        ("reopen", "ID"),
    ],
)
def test_what_is_not_meant_so_is_a_usage_error(drp: Drp, line: str, words: str) -> None:
    said = drp("quarantine", *shlex.split(line))
    assert (said.code, said.out) == (2, "")
    assert words in said.err


def test_a_file_that_is_not_there_is_said(drp: Drp) -> None:
    said = drp("quarantine", "fix", "1", "--file", "nope.json")
    assert (said.code, said.out, said.err) == (1, "", "drp: nope.json: No such file or directory\n")
