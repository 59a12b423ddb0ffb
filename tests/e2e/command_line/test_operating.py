"""What an operator does about trouble, on a running platform. The tests go on from each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.command_line.calling import Drp, closed, on_a_terminal

pytestmark = pytest.mark.heavy


def number_of(drp: Drp, reason: str) -> str:
    (row,) = drp("quarantine", "ls", "--reason", reason, "--json").document
    return str(row["id"])


def amounts(drp: Drp) -> dict[str, str]:
    query = "SELECT source_order_id AS id, amount::VARCHAR AS amount FROM staging.orders ORDER BY 1"
    return {row["id"]: row["amount"] for row in drp("sql", query, "--json").document}


def test_status_tells_what_waits_for_a_person(drp: Drp) -> None:
    said = drp("status", "--health", "--json")
    waiting = {each["what"]: each for each in said.document["concerns"] if each["count"]}
    assert (said.code, said.document["ready"], list(waiting)) == (3, True, ["quarantined"])
    assert (waiting["quarantined"]["count"], waiting["quarantined"]["next"]) == (2, "drp quarantine ls")
    assert drp("status").code == 0
    text = drp("status", "--health").out
    assert "events that were not taken" in text
    assert "batch.close" in text


def test_where_something_is_is_said_in_sentences(drp: Drp) -> None:
    (batch,) = drp("why", drp.first, "--json").document
    assert (batch["subject"], batch["state"]) == (f"batch:{drp.first}", "published")
    said = drp("why", "A-1")
    assert f"in batch {drp.first}. Readers see it since generation 1." in " ".join(said.out.split())
    assert f"drp why {drp.first}" in said.err
    assert drp("why", "1").out.startswith("generation 1 is ")
    assert drp("why", "nothing-like-it").code == 1


def test_a_plan_changes_nothing(drp: Drp) -> None:
    before = drp("batches", "show", drp.second, "--json").document
    for arguments, words in (
        (["batches", "hold", drp.second, "--because", "x"], "would be held"),
        (["batches", "release", drp.second, "--because", "x"], "was not held"),
        (["batches", "close", "--all"], "No batch is open"),
        (["warehouse", "rollback", "--because", "x"], "would see generation 1"),
        (["warehouse", "resume"], "Nothing keeps orders"),
        (["rebuild", "--full"], "Would ask for a full build"),
    ):
        said = drp(*arguments, "--dry-run")
        assert (said.code, said.out) == (0, ""), arguments
        assert words in said.err, arguments
    assert drp("batches", "show", drp.second, "--json").document == before
    assert drp("batches", "wait", "--all", "--timeout", "0").code == 0


def test_a_refused_event_is_shown_with_what_the_contract_wants_and_what_to_do(drp: Drp) -> None:
    number = number_of(drp, "wrong_type")
    said = drp("quarantine", "show", number)
    assert "a decimal, as number or text: up to 10 digits, 2 after the point" in said.out
    assert '"ten"' in said.out
    assert f"  drp quarantine fix {number} --set amount=…\n" in said.err
    document = drp("quarantine", "show", number, "--json").document
    assert (document["outcome"], document["state"], document["actions"]) == ("refused", "open", [])
    assert [field["field"] for field in document["fields"] if field["problem"]] == ["amount"]


def test_a_fix_is_checked_and_kept_and_publishes_nothing(drp: Drp) -> None:
    number = number_of(drp, "wrong_type")
    planned = drp("quarantine", "fix", number, "--set", "amount=10.00", "--dry-run")
    assert (planned.code, "Nothing was kept" in planned.err) == (0, True)
    wrong = drp("quarantine", "fix", number, "--set", "amount=10.001", "--json")
    assert (wrong.code, wrong.document["outcome"]) == (3, "refused")
    assert wrong.document["problems"][0]["reason"] == "not_exact"
    assert drp("quarantine", "redrive", number, "--yes").code == 3

    right = drp("quarantine", "fix", number, "--set", "amount=10.00")
    assert (right.code, right.out.split()[-3:]) == (0, ["amount", '"ten"', '"10.00"'])
    assert f"drp quarantine redrive {number}" in right.err
    assert json.loads(drp("quarantine", "show", number, "--fixed").out)["data"]["amount"] == "10.00"
    assert json.loads(drp("quarantine", "show", number, "--original").out)["data"]["amount"] == "ten"
    assert "A-4" not in amounts(drp)


def test_a_redrive_is_planned_then_done_once_and_seen_by_readers(drp: Drp) -> None:
    number = number_of(drp, "wrong_type")
    planned = drp("quarantine", "redrive", "--all", "--dry-run", "--json")
    assert planned.code == 3  # the line that was no row stays
    assert {event["outcome"] for event in planned.document["events"]} == {"accepted", "refused"}
    assert "accepted" in drp("quarantine", "redrive", number, "--dry-run").out

    assert drp("quarantine", "redrive", number).code == 2  # it asks first
    done = drp("quarantine", "redrive", number, "--because", "the shop corrected it", "--yes", "--json")
    assert (done.code, done.document["published"], done.document["stay"]) == (0, 1, 0)
    batch = closed(drp.platform)
    assert drp("batches", "wait", batch).code == 0
    assert amounts(drp)["A-4"] == "10.00"
    again = drp("quarantine", "redrive", number, "--yes", "--json")
    assert (again.document["published"], again.document["events"][0]["outcome"]) == (0, "redriven")

    shown = drp("quarantine", "show", number, "--json").document
    assert (shown["state"], shown["became"]["accepted"], shown["became"]["batch_id"]) == (
        "redriven",
        1,
        batch,
    )
    assert [each["action"] for each in shown["actions"]] == ["quarantine.fix"] * 2 + ["quarantine.redrive"]
    assert shown["next"] == [f"drp batches show {batch}"]
    assert number not in [str(row["id"]) for row in drp("quarantine", "ls", "--json").document]
    assert drp("quarantine", "ls", "--state", "redriven", "--json").document[0]["id"] == int(number)
    steps = drp("trace", batch, "--json").document["steps"]
    assert "redrive" in {step["name"] for step in steps}


def test_a_line_that_was_no_row_is_discarded_taken_up_again_and_fixed_in_an_editor(drp: Drp) -> None:
    number = number_of(drp, "unreadable")
    discarded = drp(
        "quarantine", "discard", "--reason", "unreadable", "--because", "a test", "--yes", "--json"
    )
    assert discarded.document == {"dry_run": False, "discarded": [int(number)]}
    assert "Not open, and left as it was" in drp("quarantine", "discard", number, "--because", "x").err
    assert drp("quarantine", "ls").err == "Nothing is quarantined and open.\n"
    assert drp("quarantine", "fix", number, "--set", "amount=1").code == 1
    assert drp("quarantine", "reopen", number, "--json").document["reopened"] == [int(number)]

    event = {
        "data": {
            "order_id": "A-5",
            "customer_id": "C-2",
            "amount": "1.00",
            "created_at": "2026-01-06T00:00:00Z",
        }
    }
    script = drp.folder / "editor.sh"
    script.write_text(f"#!/bin/sh\ncat > \"$1\" <<'E'\n{json.dumps(event)}\nE\n")
    script.chmod(0o755)
    said = on_a_terminal(
        drp, "quarantine", "fix", number, "--edit", "--redrive", "--json", answer="y\n", EDITOR=str(script)
    )
    assert (said.code, json.loads(said.out)["redrive"]["published"]) == (0, 1), said.err
    assert drp("batches", "wait", closed(drp.platform)).code == 0
    assert amounts(drp)["A-5"] == "1.00"


def test_a_conflict_goes_as_a_correction_and_bare_data_in_an_envelope(drp: Drp) -> None:
    urls: dict[str, Any] = drp.platform.urls

    def add(document: object) -> None:
        import redis

        with redis.Redis.from_url(urls["DRP_REDIS_URL"]) as client:
            client.xadd("orders", {"data": json.dumps(document)})

    data = {"order_id": "Z-1", "customer_id": "C", "amount": "1.00", "created_at": "2026-01-06T00:00:00Z"}
    event = {"specversion": "1.0", "id": "z-1", "source": "urn:test", "type": "order.placed", "data": data}
    for document in (event, {**event, "data": {**data, "amount": "2.00"}}, {**data, "order_id": "Z-2"}):
        add(document)
    closed(drp.platform)
    conflict, bare = number_of(drp, "conflict"), number_of(drp, "not_an_event")

    stays = drp("quarantine", "redrive", conflict, "--yes")
    assert (stays.code, "--new-id" in stays.err) == (3, True)
    assert "1.00" in drp("quarantine", "show", conflict).out
    assert drp("quarantine", "fix", conflict, "--new-id", "--redrive", "--yes").code == 0
    assert drp("quarantine", "fix", bare, "--wrap", "--redrive", "--yes").code == 0
    assert drp("batches", "wait", closed(drp.platform)).code == 0

    found = amounts(drp)
    assert (found["Z-1"], found["Z-2"]) == ("2.00", "1.00")
    assert drp("ledger", "verify").code == 0
    assert drp("replay", "--verify", "--json").document["identical"] is True
    assert drp("status", "--health").code == 0  # nothing waits any more
