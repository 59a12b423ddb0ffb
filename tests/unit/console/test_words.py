"""How the console says numbers, times and states."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from libs.operations.reading import STATUSES
from services.console.domain import words
from services.console.drawing import STATIC

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (0.0004, "0 ms"),
        (0.012, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (3.44, "3.4 s"),
        (42.2, "42 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (320, "5 min 20 s"),
        (3_600, "1 h"),
        (5_400, "1 h 30 min"),
        (90_000, "1 d 1 h"),
        (40 * 86_400, "40 d"),
    ],
)
def test_a_span_says_what_matters_of_it(seconds: float | None, said: str) -> None:
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("before", "said"),
    [(-3, "now"), (0.4, "now"), (5, "5 s ago"), (65, "1 min ago"), (7_300, "2 h ago"), (200_000, "2 d ago")],
)
def test_an_age_is_told_from_now(before: float, said: str) -> None:
    assert words.ago(NOW - timedelta(seconds=before), NOW) == said


@pytest.mark.parametrize(
    ("records", "said"), [(None, "–"), (0, "0/s"), (1, "<0.1/s"), (900, "3.0/s"), (300_000, "1,000/s")]
)
def test_a_rate_is_of_a_second(records: int | None, said: str) -> None:
    assert words.rate(records, 300) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (28_272, "28.3 kB"), (1_250_000_000, "1.2 GB")],
)
def test_a_size_has_three_figures(count: int | None, said: str) -> None:
    assert words.size(count) == said


@pytest.mark.parametrize(
    "state", [*STATUSES, "pass", "fail", "error", "not run", "idle", "failing", "unknown", None]
)
def test_every_state_has_an_icon_a_word_and_a_tone(state: str | None) -> None:
    sign = words.sign(state)
    icons = set(re.findall(r'id="i-(\w+)"', (STATIC.parent / "templates/icons.html").read_text()))
    assert sign.word
    assert sign.icon in icons
    assert sign.tone in {"good", "wait", "bad", "quiet"}


def test_states_that_differ_are_told_apart_without_colour() -> None:
    told = {(words.sign(status).icon, words.sign(status).word) for status in STATUSES}
    assert len(told) == len(STATUSES)
