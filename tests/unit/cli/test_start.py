"""A command pays for what it uses: none loads a driver, a model or a server that it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Final

import pytest

HEAVY: Final = (
    "adbc_driver_manager",
    "aioboto3",
    "asyncpg",
    "boto3",
    "duckdb",
    "fastapi",
    "faststream",
    "great_expectations",
    "httpx",
    "moto",
    "numpy",
    "opentelemetry.sdk",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "redis",
    "rich",
    "uvicorn",
    "yoyo",
)
RUN: Final = f"""
import json, sys
from services.cli import app
sys.argv[1:] = sys.argv[1].split()
try:
    app.main()
except SystemExit:
    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ("-h", set()),
        ("batches -h", set()),
        ("status", set()),
        ("env", set()),
        ("config show", set()),
        ("batches wait", set()),
        ("dataset check", {"duckdb"}),
        ("batches ls", {"asyncpg", "prometheus_client"}),
    ],
)
def test_a_command_loads_only_what_it_needs(arguments: str, needed: set[str]) -> None:
    environment = dict(os.environ)
    if arguments == "batches ls":
        environment["DRP_POSTGRES_URL"] = "no url"
    done = subprocess.run(
        [sys.executable, "-c", RUN, arguments], env=environment, capture_output=True, text=True, check=True
    )
    assert set(json.loads(done.stderr.splitlines()[-1])) <= needed
