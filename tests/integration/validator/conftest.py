"""The real judge, imported once for all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.adapters.postgres import Postgres, ensure_raw
from libs.datasets import load_datasets
from services.validator.handlers import Validator
from services.validator.judge import Judge
from services.validator.store import VerdictStore
from tests.integration.validator.bench import Bench


@pytest.fixture(scope="session")
def judge() -> Judge:
    judge = Judge()
    judge.warm()
    return judge


@pytest.fixture
async def bench(postgres_url: str, tmp_path: Path, judge: Judge) -> AsyncIterator[Bench]:
    datasets = load_datasets()
    postgres = await Postgres.open(postgres_url, service="test", max_size=4)
    async with postgres.transaction() as conn:
        await ensure_raw(conn, datasets["orders"])
    validator = Validator(VerdictStore(postgres), datasets, tmp_path, judge=judge)
    yield Bench(postgres, datasets["orders"], tmp_path, validator)
    await validator.close()
    await postgres.close()
