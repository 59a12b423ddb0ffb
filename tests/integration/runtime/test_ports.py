"""Ports that are free are found by asking."""

from __future__ import annotations

import socket

import pytest

from libs.runtime import processes
from libs.runtime.processes import free_port, next_free_port


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        assert next_free_port(port) > port


def test_a_port_is_handed_out_once() -> None:
    handed_out = [free_port() for _ in range(500)]
    assert len(set(handed_out)) == 500


def test_a_port_is_none_that_an_outgoing_connection_could_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_first_of_outgoing", lambda: 20_000)
    assert all(15_000 <= free_port() < 20_000 for _ in range(20))
