"""Every command on a running platform: data on stdout, messages on stderr. The tests go on from each other."""

from __future__ import annotations

import json
import shlex
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from libs.testing.platform import RunningPlatform
from tests.e2e.command_line.calling import Drp, Said, closed, published, ran

pytestmark = pytest.mark.heavy

NEGATIVE: Final = "order_id,customer_id,amount,created_at\nN-1,C-9,-1.00,2026-01-07T00:00:00Z\n"


def test_nothing_yet_is_an_empty_array_and_a_word_on_stderr(platform: RunningPlatform) -> None:
    for arguments in (
        ["batches", "ls"],
        ["quality", "ls"],
        ["quarantine", "ls"],
        ["archive", "ls"],
        ["warehouse", "ls"],
        ["ledger", "show"],
    ):
        assert ran(platform, *arguments, "--json") == Said(0, "[]\n", "")
    said = ran(platform, "batches", "ls")
    assert (said.code, said.out) == (0, "")
    assert said.err == "No batch yet. Publish one: drp publish --file orders.csv\n"
    said = ran(platform, "sql", "SELECT 1")
    assert (said.code, said.out) == (1, "")
    assert "nothing of orders is published yet" in said.err


def test_status_shows_servers_and_services(drp: Drp) -> None:
    document = drp("status", "--health", "--json").document
    kinds = {part["name"]: part["kind"] for part in document["parts"]}
    assert document["ready"] is True
    assert [name for name, kind in kinds.items() if kind == "server"] == [
        "objects",
        "traces",
        "redis",
        "postgres",
    ]
    assert {"generator", "ingestor", "transformer", "validator", "archiver", "audit"} <= kinds.keys()
    assert {"ingest", "transform", "validate", "publish"} <= {flow["flow_name"] for flow in document["flows"]}

    said = drp("status")
    assert (said.code, said.err) == (0, "")
    assert all(name in said.out for name in kinds)


def test_env_leads_other_programs_to_what_runs(drp: Drp) -> None:
    found = drp("env", "--json").document
    assert {"DRP_REDIS_URL", "DRP_POSTGRES_URL", "DRP_S3_ENDPOINT_URL", "DRP_GENERATOR_URL"} <= found.keys()

    quoted = shlex.join(drp.platform.command("env"))
    script = f'eval "$({quoted})" && printenv {" ".join(found)}'
    done = subprocess.run(
        ["sh", "-c", script], env=drp.platform.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == list(found.values())


def test_the_doctor_finds_nothing_that_breaks_the_promise(drp: Drp) -> None:
    said = drp("doctor", "--json")
    assert (said.code, said.err) == (0, "guaranteed\n")
    assert said.document["guaranteed"] is True
    assert {each["check"]: each["state"] for each in said.document["findings"]}["archive"] == "ok"


def test_config_show_takes_over_what_runs_and_hides_its_secrets(drp: Drp) -> None:
    environment = drp("env", "--json").document
    document = drp("config", "show", "--json").document
    password = environment["DRP_POSTGRES_URL"].split(":")[2].partition("@")[0]
    assert document["postgres_url"].startswith("postgresql://***@127.0.0.1:")
    assert password not in json.dumps(document) + drp("config", "show").out
    assert password in drp("config", "show", "--reveal").out
    mine = drp("config", "show", "--json", DRP_REDIS_URL="redis://mine:1/0").document
    assert (mine["redis_url"], mine["postgres_url"]) == ("redis://mine:1/0", document["postgres_url"])


def test_a_test_alert_arrives(drp: Drp, webhook: tuple[str, list[Any]]) -> None:
    said = drp("alert", "test", "--json")
    assert (said.code, said.document["state"]) == (0, "sent")
    assert "The alert was sent" in said.err
    assert webhook[1][-1]["event_type"] == "alert.test"


def test_publishing_tells_what_went_where(drp: Drp) -> None:
    said = drp("publish", "--file", str(drp.folder / "faulty.csv"), "--json")
    assert (said.document["events"], said.document["unreadable"]) == (5, 1)
    assert "published 5 events" in said.err
    assert "drp quarantine ls --reason unreadable" in said.err
    again = closed(drp.platform)
    assert drp("batches", "wait", again, "--json").document == {"batch": again, "status": "empty"}
    assert drp("batches", "show", again, "--json").document["duplicate"] == 3


def test_a_batch_is_told_whole(drp: Drp) -> None:
    listed = {row["id"]: row for row in drp("batches", "ls", "--json").document}
    shown = drp("batches", "show", drp.first[:13], "--json").document
    assert shown["id"] == drp.first
    assert (shown["accepted"], shown["quarantined"], listed[drp.first]["close_reason"]) == (3, 2, "requested")
    assert shown["generations"][0]["verdict"] == "pass"
    assert {row["flow_name"] for row in shown["audit"]} >= {"ingest", "transform", "validate", "publish"}

    said = drp("batches", "show", drp.first)
    assert "audit" in said.out
    assert f"drp trace {drp.first}" in said.err
    assert drp.second in drp("batches", "ls", "--status", "published", "--limit", "1").out


def test_a_batch_that_is_closed_stays_closed(drp: Drp) -> None:
    said = drp("batches", "close", drp.first)
    assert (said.code, said.err) == (0, f"Batch {drp.first} is closed already.\n")
    assert drp("batches", "close", "--all", "--json").document == {"closed": []}


def test_what_was_refused_is_there_byte_for_byte(drp: Drp) -> None:
    rows = drp("quarantine", "ls", "--batch", drp.first, "--json").document
    assert [row["reason"] for row in rows] == ["unreadable", "wrong_type"]
    number = str(rows[1]["id"])
    original = drp("quarantine", "show", number, "--original").out
    assert json.loads(original)["data"]["amount"] == "ten"
    assert drp("quarantine", "show", number, "--json").document["original"] == original
    assert "wrong_type" in drp("quarantine", "ls", "--reason", "wrong_type", "--dataset", "orders").out


def test_the_ledger_balances(drp: Drp) -> None:
    said = drp("ledger", "verify", "--json")
    (row,) = said.document
    assert (said.code, row["problems"], row["unaccounted"]) == (0, [], 0)
    assert said.err == "The ledger balances.\n"
    assert row["accepted"] == drp("ledger", "show", "--json").document[0]["accepted"] >= 4
    assert drp("ledger", "verify").out.split()[:2] == ["dataset", "published"]


def test_a_trace_goes_from_the_producer_to_the_audit(drp: Drp) -> None:
    steps = drp("trace", drp.first, "--json").document["steps"]
    assert {"drp", "ingestor", "transformer", "validator", "archiver", "audit"} <= {
        step["service"] for step in steps
    }
    drawn = drp("trace", drp.first)
    assert (drawn.code, drawn.err) == (0, "")
    assert "validate" in drawn.out


def test_the_archive_is_listed_verified_and_fetched(drp: Drp) -> None:
    rows = drp("archive", "ls", "--batch", drp.first, "--json").document
    assert {row["kind"] for row in rows} == {"raw", "quarantine", "manifest"}
    said = drp("archive", "verify", "--json")
    assert (said.code, said.document["problems"]) == (0, [])
    manifest = next(row["key"] for row in rows if row["kind"] == "manifest")
    assert drp("archive", "get", manifest).document["batch_id"] == drp.first


def test_a_replay_is_planned_by_the_code_that_runs_and_adds_nothing(drp: Drp) -> None:
    before = drp("ledger", "show", "--json").document[0]["accepted"]
    planned = drp("replay", "--all", "--dry-run", "--json").document
    refused = drp("replay", "--all")
    done = drp("replay", "--all", "--yes", "--json")
    batch = closed(drp.platform)

    assert (refused.code, refused.out) == (2, "")
    assert "say --yes" in refused.err
    assert planned["events"] == done.document["events"] == 4
    assert drp("batches", "show", batch, "--json").document["duplicate"] == 4
    assert drp("ledger", "show", "--json").document[0]["accepted"] == before
    assert drp("replay", "--batch", drp.first, "--from", "raw", "--dry-run", "--json").document["events"] == 3
    assert drp("replay", "--verify", "--json").document["identical"] is True


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            "table",
            "source_order_id  amount\nA-1               10.50\nA-2               20.25\nA-3                0.10\n",
        ),
        ("csv", '"source_order_id","amount"\n"A-1",10.50\n"A-2",20.25\n"A-3",0.10\n'),
        (
            "json",
            '[{"source_order_id":"A-1","amount":"10.50"},\n{"source_order_id":"A-2","amount":"20.25"},\n'
            '{"source_order_id":"A-3","amount":"0.10"}]\n',
        ),
    ],
)
def test_an_answer_to_sql_is_exact_in_every_form(drp: Drp, form: str, expected: str) -> None:
    query = "SELECT source_order_id, amount FROM staging.orders WHERE source_order_id LIKE 'A-%' ORDER BY 1"
    assert drp("sql", query, "--format", form) == Said(0, expected, "")


def test_moments_and_days_are_exact(drp: Drp) -> None:
    query = "SELECT order_created_at, order_date FROM staging.orders WHERE source_order_id = 'A-3'"
    assert drp("sql", query).out.splitlines()[1] == "2026-01-06 00:00:00.250001Z  2026-01-06"


def test_parquet_goes_into_a_pipe_and_into_a_file(drp: Drp) -> None:
    import pyarrow.parquet as pq

    file = drp.folder / "answer.parquet"
    query = "SELECT sum(total_amount) AS total FROM analytics.daily_order_metrics"
    assert drp("sql", query, "--output", str(file)).code == 0
    assert pq.read_table(file).column("total").to_pylist() == [Decimal("35.85")]
    piped = subprocess.run(
        drp.platform.command("sql", query, "--format", "parquet"),
        env=drp.platform.environment,
        capture_output=True,
        check=True,
    )
    assert piped.stdout == file.read_bytes()


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_large_answer_is_whole_and_a_reader_may_leave(drp: Drp, form: str) -> None:
    command = shlex.join(drp.platform.command("sql", "SELECT * FROM range(200000)", "--format", form))
    for script, expected in ((f"{command} | wc -l", 200_000), (f"{command} | head -1 | wc -l", 1)):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],
            env=drp.platform.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert int(done.stdout) in (expected, expected + 1)


def test_the_warehouse_goes_back_and_on_again(drp: Drp) -> None:
    generations = drp("warehouse", "ls", "--json").document
    current = next(row["number"] for row in generations if row["current"])
    earlier = next(row["number"] for row in generations if row["state"] == "retired")
    assert drp("warehouse", "rollback", "--reason", "a test").code == 2

    said = drp("warehouse", "rollback", "--reason", "a test", "--yes", "--json")
    assert said.document == {"dataset": "orders", "generation": earlier, "pinned": True}
    assert earlier < current
    assert f"rolled back to {earlier} (a test)" in drp("warehouse", "ls").err
    assert drp("warehouse", "resume", "--json").document == {"dataset": "orders", "resumed": True}
    assert drp("warehouse", "resume", "--json").document == {"dataset": "orders", "resumed": False}
    assert "rolled back" not in drp("warehouse", "ls").err
    assert drp("batches", "wait", "--all").code == 0
    assert drp("sql", "SELECT count(*) AS n FROM staging.orders", "--json").document == [{"n": 4}]


def test_a_rebuild_is_asked_for_and_awaited(drp: Drp) -> None:
    before = drp("warehouse", "ls", "--json").document[0]["number"]
    document = drp("rebuild", "--full", "--json").document
    assert (document["dataset"], document["full"]) == ("orders", True)
    assert drp("batches", "wait", "--all").code == 0
    newest = drp("warehouse", "ls", "--json").document[0]
    assert (newest["number"] > before, newest["kind"], newest["current"]) == (True, "full", True)
    path = Path(drp("warehouse", "path").out.strip())
    assert (path.is_symlink(), path.parent.parent) == (True, drp.platform.home / "warehouse")
    assert drp("warehouse", "path", "--json").document["path"] == str(path)


def test_a_batch_that_readers_see_is_held_only_on_purpose_and_comes_back(drp: Drp) -> None:
    asked = drp("batches", "hold", drp.second, "--reason", "a test")
    assert (asked.code, asked.out) == (2, "")
    held = drp("batches", "hold", drp.second, "--reason", "a test", "--yes", "--json")
    assert held.document["held_reason"] == "a test"
    assert drp("batches", "wait", "--all").code == 0
    assert drp("sql", "SELECT count(*) AS n FROM staging.orders", "--json").document == [{"n": 3}]
    assert "was held already" in drp("batches", "hold", drp.second, "--reason", "x").err

    released = drp("batches", "release", drp.second, "--reason", "a test", "--json")
    assert released.document["held_at"] is None
    assert drp("batches", "wait", drp.second).code == 0
    assert drp("sql", "SELECT count(*) AS n FROM staging.orders", "--json").document == [{"n": 4}]
    assert "was not held" in drp("batches", "release", drp.second, "--reason", "x").err
    actions = drp("batches", "show", drp.second, "--json").document["actions"]
    assert [each["action"] for each in actions] == ["batch.close", "batch.hold", "batch.release"]


def test_what_the_gate_blocks_is_a_problem_found_until_a_person_accepts_it(drp: Drp) -> None:
    batch = published(drp.platform, drp.folder / "negative.csv", NEGATIVE)
    waited = drp("batches", "wait", "--all", "--json")
    assert (waited.code, waited.document) == (3, {"blocked": 1})
    assert "drp batches ls --status blocked" in waited.err
    assert drp("batches", "wait", batch, "--json").code == 3
    shown = drp("batches", "show", batch, "--json").document
    assert [rule["rule"] for rule in shown["broken_rules"]] == ["amount_not_negative"]
    assert "drp batches hold" in drp("batches", "show", batch).err

    number = str(shown["last_generation"])
    judged = drp("quality", "show", "--json").document
    assert (judged["generation"], judged["failures"][0]["business_key"]) == (int(number), "N-1")
    assert drp("quality", "ls", "--json").document[0]["verdict"] == "fail"
    assert "amount_not_negative" in drp("quality", "show", number).out
    assert drp("quality", "accept", number, "--reason", "a test").code == 2
    planned = drp("quality", "accept", number, "--reason", "a test", "--dry-run", "--json").document
    assert (planned["state"], planned["dry_run"]) == ("blocked", True)
    accepted = drp("quality", "accept", number, "--reason", "a test", "--yes", "--json")
    assert accepted.document["state"] in ("passed", "published")
    assert accepted.document["override_reason"] == "a test"
    settled = drp("batches", "wait", "--all", "--json")
    assert (settled.code, settled.document) == (0, {"blocked": 0})
