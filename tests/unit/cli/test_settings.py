"""Where a command looks for its platform: the environment wins over what runs in DRP_HOME."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs.errors import Permanent, Transient
from libs.runtime.home import Home, State
from libs.runtime.processes import Process
from services.cli.settings import adopted, home_folder, operator

RUNNING = {
    "DRP_REDIS_URL": "redis://running/0",
    "DRP_POSTGRES_URL": "postgresql://running/drp",
    "DRP_S3_ENDPOINT_URL": "http://running:9000",
    "DRP_S3_ACCESS_KEY": "running",
    "DRP_S3_SECRET_KEY": "running",
    "DRP_S3_BUCKET": "drp",
}


@pytest.fixture
def running() -> Path:
    """A platform that is said to run in DRP_HOME; its supervisor is this process."""
    home = home_folder()
    (home / "run").mkdir(parents=True)
    me = Process.of(os.getpid())
    assert me is not None
    state = State(
        pid=me.pid,
        started=me.started,
        started_at=datetime.now(UTC),
        ready=True,
        parts=[],
        environment=RUNNING | {"DRP_HOME": str(home)},
    )
    Home(home).write(state)
    return home


def test_what_is_not_set_comes_from_what_runs() -> None:
    assert adopted({}, RUNNING) == RUNNING


def test_what_is_set_wins() -> None:
    own = {"DRP_REDIS_URL": "redis://mine/0"}
    assert "DRP_REDIS_URL" not in adopted(own, RUNNING)
    assert adopted(own, RUNNING)["DRP_POSTGRES_URL"] == RUNNING["DRP_POSTGRES_URL"]


def test_what_is_set_to_nothing_is_not_set() -> None:
    assert adopted({"DRP_REDIS_URL": ""}, RUNNING)["DRP_REDIS_URL"] == "redis://running/0"


def test_what_is_set_as_a_file_wins() -> None:
    assert "DRP_POSTGRES_URL" not in adopted({"DRP_POSTGRES_URL_FILE": "/run/secrets/url"}, RUNNING)


@pytest.mark.parametrize("name", ["DRP_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_another_object_store_gets_no_keys_of_the_running_one(name: str) -> None:
    taken = adopted({name: "https://s3.example.org"}, RUNNING)
    assert sorted(taken) == ["DRP_POSTGRES_URL", "DRP_REDIS_URL"]


def test_the_running_object_store_named_again_gets_its_keys() -> None:
    taken = adopted({"DRP_S3_ENDPOINT_URL": "http://running:9000"}, RUNNING)
    assert taken["DRP_S3_SECRET_KEY"] == "running"


async def test_a_command_works_with_what_runs_in_its_home(running: Path) -> None:
    os.environ["DRP_REDIS_URL"] = "redis://mine/0"
    async with operator() as platform:
        found = platform.settings
    assert (found.redis_url, found.postgres_url) == ("redis://mine/0", "postgresql://running/drp")
    assert found.home == running


async def test_where_nothing_runs_there_is_nobody_to_talk_to() -> None:
    async with operator() as platform:
        with pytest.raises(Transient, match=r"no platform to talk to: .*Try: drp up --detach"):
            await platform.postgres()
        with pytest.raises(Transient, match="no platform to talk to"):
            await platform.bus()
        with pytest.raises(Permanent, match="no object store is configured"):
            await platform.objects()


async def test_a_dataset_that_is_not_known_is_named_with_those_that_are() -> None:
    async with operator() as platform:
        assert platform.dataset(None).name == "orders"
        assert platform.only(None) is None
        for ask in (platform.dataset, platform.only):
            with pytest.raises(Permanent, match="there is no dataset 'nope': known are orders"):
                ask("nope")


async def test_the_only_dataset_needs_no_name() -> None:
    os.environ["DRP_DATASETS_DIR"] = str(Path(__file__).parents[2] / "data" / "datasets")
    async with operator() as platform:
        expected = "orders" if "orders" in platform.datasets else "payments"
        assert platform.dataset(None).name == expected


async def test_nothing_published_is_said_with_where_it_was_looked_for() -> None:
    async with operator() as platform:
        with pytest.raises(Permanent, match=r"nothing of orders is published yet: there is no .*current"):
            platform.current_file(None)
