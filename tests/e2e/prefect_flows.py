"""Run by Prefect's venv: the flows in Prefect's own test harness, one line of JSON for a run, one for its outcome.

A line with arguments runs the flows' own command with them; the answer is its exit code.
A first line tells where the harness' server is; the process ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any, Final

from prefect import Task
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

FLOWS: Final = Path(__file__).parents[2] / "deploy" / "prefect" / "flows.py"


def tell(document: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(document)}\n")
    sys.stdout.flush()


async def run(flow: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    state = await flow(**parameters, return_state=True)
    return {
        "run": str(state.state_details.flow_run_id),
        "state": state.name,
        "message": state.message,
        "result": await state.aresult() if state.is_completed() else None,
    }


def command(arguments: list[str]) -> int:
    """The exit code of the flows' own command, whose retries come at once."""
    flows = runpy.run_path(str(FLOWS))
    for task in (each for each in flows.values() if isinstance(each, Task)):
        task.retry_delay_seconds = 0
    exit_code: int = flows["main"](arguments)
    return exit_code


def main() -> None:
    flows = runpy.run_path(str(FLOWS))
    before = dict(os.environ)
    with prefect_test_harness(server_startup_timeout=120):
        tell({"api": PREFECT_API_URL.value()})
        for line in sys.stdin:
            asked = json.loads(line)
            os.environ.update(asked["environment"])
            if "flow" in asked:
                tell(asyncio.run(run(flows[asked["flow"]], asked["parameters"])))
            else:
                tell({"exit": command(asked["arguments"])})
            os.environ.clear()
            os.environ.update(before)


if __name__ == "__main__":
    main()
