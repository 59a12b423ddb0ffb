"""Whole platforms, from installed packages, through the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from libs.testing.platform import RunningPlatform

Start = Callable[..., RunningPlatform]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a platform of the module's own, with settings; all are stopped after the module."""
    with ExitStack() as stack:

        def begin(**environment: str) -> RunningPlatform:
            platform = RunningPlatform(tmp_path_factory.mktemp("platform") / ".drp", environment)
            stack.callback(platform.stop)
            platform.start()
            return platform

        yield begin


@pytest.fixture(scope="module")
def platform(start: Start) -> RunningPlatform:
    """One platform for a whole module; its tests go on from each other."""
    return start()


@pytest.fixture(scope="session")
def real_orders() -> Path:
    return Path(__file__).parents[1] / "data" / "cdnow_orders.csv.gz"
