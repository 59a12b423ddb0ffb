"""The flows for those who keep Prefect, in Prefect's own test harness, on a platform; seen through Prefect's API."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import duckdb
import httpx
import pytest

from libs.testing.platform import RunningPlatform
from libs.testing.waiting import until
from tests.contract.objects.lossy import LossyProxy
from tests.e2e.conftest import Start
from tests.e2e.documents import ROOT, blocks_of, shell_environment

pytestmark = pytest.mark.heavy

BIN: Final = ROOT / ".venv-prefect" / "bin"
DRIVER: Final = Path(__file__).with_name("prefect_flows.py")
HEADER: Final = "order_id,customer_id,amount,created_at\n"
GOOD: Final = f"{HEADER}A-1,C-1,10.50,2026-01-05T09:30:00Z\nA-2,C-1,ten,2026-01-05T09:31:00Z\n"
NEGATIVE: Final = f"{HEADER}N-1,C-9,-1.00,2026-01-07T00:00:00Z\n"
CORRECTED: Final = f"{HEADER}N-1,C-9,1.00,2026-01-07T00:00:01Z\n"
LATER: Final = f"{HEADER}L-1,C-3,5.00,2026-01-08T00:00:00Z\n"

CLOSED_DOOR: Final = "http://127.0.0.1:9"
"""Whoever wants to leave this machine is refused at once."""


class Prefect:
    """Prefect's harness in a process of its venv, its server and profile in a folder of its own."""

    def __init__(self, platform: RunningPlatform, folder: Path) -> None:
        self.home = folder / "home"
        self.environment = {
            **platform.environment,
            "HOME": str(self.home),
            "TMPDIR": str(folder / "tmp"),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), CLOSED_DOOR),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        self._said = folder / "stderr"
        # Prefect leaves its clients' sockets to the collector; every other warning is an error.
        command = [str(BIN / "python"), "-W", "error", "-W", "ignore::ResourceWarning", str(DRIVER)]
        with self._said.open("w") as stderr:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self.api = str(self.heard()["api"])

    def run(self, flow: str, /, environment: dict[str, str] | None = None, **parameters: object) -> Any:
        """The run's id, state, message and result."""
        self.begin(flow, environment, **parameters)
        return self.heard()

    def begin(self, flow: str, environment: dict[str, str] | None = None, /, **parameters: object) -> None:
        self._ask({"flow": flow, "environment": environment or {}, "parameters": parameters})

    def exit_code(self, *arguments: str, environment: dict[str, str] | None = None) -> int:
        """Of the flows' own command, whose retries come at once."""
        self._ask({"arguments": arguments, "environment": environment or {}})
        code: int = self.heard()["exit"]
        return code

    def _ask(self, document: dict[str, Any]) -> None:
        stdin = _open(self.process.stdin)
        stdin.write(f"{json.dumps(document)}\n")
        stdin.flush()

    def heard(self) -> dict[str, Any]:
        deadline = threading.Timer(180, self.process.kill)
        deadline.start()
        line = _open(self.process.stdout).readline()
        deadline.cancel()
        assert line, self._said.read_text()[-4000:]
        document: dict[str, Any] = json.loads(line)
        return document

    def asked(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What Prefect's API answers: what its pages show."""
        reply = httpx.post(f"{self.api}/{path}", json=body or {}, trust_env=False, timeout=30)
        return reply.raise_for_status().json()

    def tasks(self, run: str) -> dict[str, tuple[str, int]]:
        """State and number of runs, by the task's name before its number."""
        rows = self.asked("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return {row["name"].rpartition("-")[0]: (row["state"]["name"], row["run_count"]) for row in rows}

    def stop(self) -> None:
        _open(self.process.stdin).close()
        self.process.wait(60)
        _open(self.process.stdout).close()


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@pytest.fixture(scope="module")
def platform(start: Start) -> RunningPlatform:
    """Its batches stay open until a flow has them closed."""
    return start(DRP_BATCH_MAX_AGE="600")


@pytest.fixture(scope="module")
def prefect(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    subprocess.run(["make", "-s", ".venv-prefect/installed"], cwd=ROOT, check=True, timeout=300)
    started = Prefect(platform, tmp_path_factory.mktemp("prefect"))
    yield started
    if started.process.poll() is None:
        started.stop()


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def written(text: str) -> str:
        path = tmp_path / f"{abs(hash(text))}.csv"
        path.write_text(text)
        return str(path)

    return written


def test_a_run_is_completed_once_readers_see_what_it_published(
    prefect: Prefect, platform: RunningPlatform, file: Any
) -> None:
    path = file(GOOD)
    ingested = prefect.run("ingest_orders_to_raw", file=path)
    assert (ingested["state"], ingested["message"]) == ("Completed", None)
    (batch,) = ingested["result"].pop("batches")
    assert ingested["result"] == {"accepted": 1, "duplicate": 0, "quarantined": 1, "dead_lettered": 0}
    assert prefect.tasks(ingested["run"]) == {"publish": ("Completed", 1), "await-landing": ("Completed", 1)}

    staged = prefect.run("stage_and_validate_orders")
    assert (staged["state"], staged["result"]) == ("Completed", {batch: "published"})
    assert platform.ask("SELECT source_order_id, amount::VARCHAR AS amount FROM staging.orders") == [
        {"source_order_id": "A-1", "amount": "10.50"}
    ]

    again = prefect.run("ingest_orders_to_raw", file=path)
    assert (again["result"]["accepted"], again["result"]["duplicate"]) == (0, 1)
    assert prefect.run("stage_and_validate_orders", batches=again["result"]["batches"])["result"] == {
        again["result"]["batches"][0]: "empty"
    }

    actors = platform.rows("SELECT actor FROM ops.operator_actions WHERE subject = $1", f"batch:{batch}")
    assert actors == [{"actor": f"prefect flow run {staged['run']}"}]
    told = platform.drp("trace", batch, "--json")
    assert f'"prefect.flow_run_id": "{ingested["run"]}"' in told


def test_a_run_fails_with_the_rule_that_blocked_it_until_corrections_are_published(
    prefect: Prefect, platform: RunningPlatform, file: Any
) -> None:
    (batch,) = prefect.run("ingest_orders_to_raw", file=file(NEGATIVE))["result"]["batches"]
    for batches in ([batch], None):
        staged = prefect.run("stage_and_validate_orders", batches=batches)
        assert (staged["state"], staged["result"]) == ("Failed", None)
        assert f"the gate blocked batch {batch}: amount_not_negative. See the rows: " in staged["message"]
        assert f"drp batches hold {batch} --reason" in staged["message"]
    command = staged["message"].partition("See the rows: drp ")[2].partition(".")[0]
    assert "N-1" in platform.drp(*command.split())

    (correction,) = prefect.run("ingest_orders_to_raw", file=file(CORRECTED))["result"]["batches"]
    staged = prefect.run("stage_and_validate_orders")
    assert staged["result"] == {correction: "published", batch: "published"}


def test_a_json_api_is_pulled_with_a_secret_that_prefect_does_not_keep(
    prefect: Prefect, platform: RunningPlatform
) -> None:
    url = f"{platform.urls['DRP_GENERATOR_URL']}/v1/orders?limit=7"
    secret = {"Authorization": "SHOP_TOKEN"}
    without = prefect.run("ingest_orders_to_raw", url=url, header_env=secret)
    assert (without["state"], prefect.tasks(without["run"])) == ("Failed", {"pull": ("Failed", 1)})
    assert "SHOP_TOKEN is not set" in without["message"]

    done = prefect.run(
        "ingest_orders_to_raw", {"SHOP_TOKEN": "Bearer of-secrets"}, url=url, header_env=secret
    )
    assert (done["state"], done["result"]["accepted"]) == ("Completed", 7)
    (kept,) = prefect.asked("flow_runs/filter", {"flow_runs": {"id": {"any_": [done["run"]]}}})
    assert kept["parameters"]["url"] == url
    assert "of-secrets" not in json.dumps(kept)


def test_what_is_wrong_with_a_file_is_not_tried_again(prefect: Prefect) -> None:
    done = prefect.run("ingest_orders_to_raw", file="/nowhere/orders.csv")
    assert done["state"] == "Failed"
    assert "cannot open /nowhere/orders.csv" in done["message"]
    assert prefect.tasks(done["run"]) == {"publish": ("Failed", 1)}


async def test_a_server_that_is_away_for_a_moment_is_tried_again(
    prefect: Prefect, platform: RunningPlatform, file: Any
) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))  # and nobody listens
        real = urlsplit(platform.urls["DRP_REDIS_URL"])
        url = real._replace(netloc=f"{real.netloc.rpartition(':')[0]}:{door.getsockname()[1]}").geturl()
        prefect.begin("ingest_orders_to_raw", {"DRP_REDIS_URL": url}, file=file(LATER))

        def waiting() -> bool:
            rows = prefect.asked("task_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1})
            return [row["state"]["name"] for row in rows] == ["AwaitingRetry"]

        await until(waiting, every=0.1)
        async with LossyProxy(real.geturl(), door):
            done = await asyncio.to_thread(prefect.heard)
    assert done["state"] == "Completed", done
    assert done["result"]["accepted"] == 1
    assert prefect.tasks(done["run"]) == {"publish": ("Completed", 2), "await-landing": ("Completed", 1)}


def test_the_command_exits_as_drp_does_whichever_flow_it_was(
    prefect: Prefect, platform: RunningPlatform, file: Any
) -> None:
    blocked, corrected = (
        f"{HEADER}X-1,C-9,{said}Z\n" for said in ("-1,2026-01-08T01:00:00", "1,2026-01-08T01:00:01")
    )
    assert prefect.exit_code("--file", file(blocked)) == 3
    assert prefect.exit_code("--file", file(corrected)) == 0
    platform.settle()
    assert prefect.exit_code("--file", "/nowhere/orders.csv") == 1

    url = platform.urls["DRP_POSTGRES_URL"]
    platform.rows("CREATE ROLE reader LOGIN PASSWORD 'of-entries'")
    platform.rows("GRANT USAGE ON SCHEMA ops TO reader")
    platform.rows("GRANT SELECT ON ops.entries TO reader")
    ours = urlsplit(url)
    allowed_less = ours._replace(netloc=f"reader:of-entries@{ours.netloc.rpartition('@')[2]}").geturl()
    published = file(corrected)
    assert prefect.exit_code("--file", published, environment={"DRP_POSTGRES_URL": allowed_less}) == 1
    away = {"DRP_POSTGRES_URL": "postgresql://drp@127.0.0.1:9/drp"}
    assert prefect.exit_code("--file", published, environment=away) == 5
    with platform.hanging("transformer"):
        path = file(f"{HEADER}X-2,C-9,1.00,2026-01-08T02:00:00Z\n")
        assert prefect.exit_code("--file", path, "--timeout", "2") == 5
    platform.settle()


class Reader:
    """Who types the blocks of docs/from-prefect.md, in a folder that has what they name of the project's."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        for name in ("deploy", ".venv-prefect"):
            (folder / name).symlink_to(ROOT / name)
        self.untyped = [block.text for block in blocks_of("docs/from-prefect.md")]
        self.environment = shell_environment(environment)

    def typed(self, beginning: str, *, expect: int = 0) -> str:
        """What the block that begins so said; another exit code than expected fails the test."""
        (script,) = [block for block in self.untyped if block.startswith(beginning)]
        self.untyped.remove(script)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def reader(prefect: Prefect, platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """With a platform whose batches close by age, as they do where nobody has set anything."""
    platform.stop()
    del platform.environment["DRP_BATCH_MAX_AGE"]
    platform.start()
    folder = tmp_path_factory.mktemp("reader")
    (folder / "orders.csv").write_text(f"{HEADER}D-1,C-3,5.00,2026-01-09T00:00:00Z\n")
    urls = platform.urls
    old = {
        "OLD_POSTGRES_URL": urls["DRP_POSTGRES_URL"],
        "OLD_DUCKDB": str(folder / "old.duckdb"),
        "ORDERS_URL": f"{urls['DRP_GENERATOR_URL']}/v1/orders?limit=20",
        "ORDERS_FILE": "orders.csv",
        "PREFECT_API_URL": prefect.api,
    }
    return Reader(folder, {**prefect.environment, **old})


def test_history_is_brought_and_what_is_pulled_beside_it_gives_the_same_mart(
    reader: Reader, platform: RunningPlatform
) -> None:
    count = "SELECT count(*) AS rows FROM raw.orders_raw"
    before = platform.rows(count)[0]["rows"]
    assert before > 0
    reader.typed("psql")
    assert platform.rows(f"{count} WHERE source_system = 'urn:old-platform:orders_raw'") == [{"rows": before}]
    reader.typed("drp publish --url")
    assert platform.rows(count) == [{"rows": 2 * before + 20}]

    with duckdb.connect(reader.environment["OLD_DUCKDB"]) as old:
        old.execute("CREATE SCHEMA analytics")
        old.execute(f"ATTACH '{platform.drp('warehouse', 'path').strip()}' AS new (READ_ONLY)")
        old.execute("CREATE TABLE analytics.daily_order_metrics AS FROM new.analytics.daily_order_metrics")
        old.execute(
            "UPDATE analytics.daily_order_metrics SET total_orders = 77 WHERE order_date = '2026-01-08'"
        )
    said = reader.typed('python - "$OLD_DUCKDB"')
    assert re.findall(r"\d{4}-\d\d-\d\d.*77", said)
    assert "2026-01-05" not in said


def test_prefect_is_kept_with_a_worker_and_left_again(reader: Reader, prefect: Prefect) -> None:
    reader.typed(".venv-prefect/bin/python")
    runs = prefect.asked("flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 2})
    assert [run["state"]["name"] for run in runs] == ["Completed", "Completed"]

    reader.typed('export PATH="$PWD/.venv-prefect/bin:$PATH"\ncd deploy/prefect')
    deployed = prefect.asked("deployments/filter")
    assert {each["entrypoint"] for each in deployed} == {
        "flows.py:ingest_orders_to_raw",
        "flows.py:stage_and_validate_orders",
    }
    assert [len(each["schedules"]) for each in deployed] == [1, 1]
    (run,) = [run for run in prefect.asked("flow_runs/filter") if run["work_pool_name"] and run["start_time"]]
    assert (run["work_pool_name"], run["state"]["name"]) == ("drp", "Completed")

    reader.typed('export PATH="$PWD/.venv-prefect/bin:$PATH"\nprefect deployment schedule clear')
    assert [each["schedules"] for each in prefect.asked("deployments/filter")] == [[], []]


def test_the_audit_table_is_asked_as_before(reader: Reader) -> None:
    health = reader.typed("drp status --health", expect=3)  # alerts that reached nobody, quarantined events
    told = reader.typed('eval "$(drp env)"')
    for said in (health, told):
        assert re.findall(r"validate .*0\.\d+", said)
        assert "amount_not_negative" in said
    assert reader.untyped == []


def test_the_queries_of_such_a_platform_are_answered(platform: RunningPlatform) -> None:
    section = (
        (ROOT / "docs" / "from-prefect.md").read_text().partition("### Queries\n")[2].partition("\n#")[0]
    )
    asked = re.findall(r"`((?:SELECT|drp) [^`]+)`", section.partition("|---|")[2])
    assert len(asked) > 20
    for words in asked:
        if words.startswith("SELECT"):
            platform.rows(words)
        else:
            platform.drp(*shlex.split(words.replace("find ORDER", "find A-1"))[1:], expect=(0, 3))


def test_the_harness_leaves_no_process_and_no_file_behind(prefect: Prefect) -> None:
    os.killpg(prefect.process.pid, 0)
    prefect.stop()

    assert prefect.process.returncode == 0
    with pytest.raises(httpx.ConnectError):
        prefect.asked("flow_runs/filter")
    with pytest.raises(ProcessLookupError):
        os.killpg(prefect.process.pid, 0)
    assert [*prefect.home.iterdir(), *Path(prefect.environment["TMPDIR"]).iterdir()] == []
