"""A process is known by its number and its start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from libs.runtime.processes import Process, wait_for_end


def test_a_number_given_to_another_process_is_not_signalled() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = Process.of(child.pid)
    assert found is not None
    assert found.alive
    stranger = Process(child.pid, "earlier")
    assert not stranger.alive
    stranger.end(signal.SIGKILL)
    assert child.poll() is None
    found.end(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL


def test_a_process_that_ended_and_waits_for_its_parent_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    found = Process.of(child.pid)
    assert found is None or wait_for_end([found], timeout=240)
    assert Process.of(child.pid) is None
    child.wait()


def test_there_is_no_process_of_a_free_number() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert Process.of(child.pid) is None


def test_we_are_the_same_all_along() -> None:
    assert Process.of(os.getpid()) == Process.of(os.getpid())


def test_a_process_gives_way_as_told() -> None:
    code = "import os; from libs.runtime.processes import give_way; give_way(3); print(os.nice(0))"
    already = os.nice(0)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert int(done.stdout) == min(19, already + 3)
