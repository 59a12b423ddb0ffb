"""Alerts reach a real HTTP server, in spite of it."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from libs.adapters.postgres import Postgres, Row
from libs.errors import Transient
from libs.operations.alerts import send_test_alert
from libs.testing.waiting import until
from services.audit.domain import MAX_ATTEMPTS, Step
from services.audit.handlers import NO_WEBHOOK, send_alerts, shelve_alerts
from services.audit.store import AuditStore
from services.audit.webhook import Webhook, open_webhook
from tests.integration.audit.receiver import Answer, Receiver

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def fail(store: AuditStore, *runs: str) -> None:
    await store.record_found(
        [
            Step(
                event_id=uuid4(),
                flow="validate",
                run_id=run,
                status="failed",
                started_at=NOON,
                ended_at=NOON,
                records=1,
                event_type="quality.failed",
                metadata={"dataset": "orders"},
                error="too many negative amounts",
            )
            for run in runs
        ]
    )


async def sent(store: AuditStore, webhook: Webhook) -> bool:
    return await send(store, webhook) > 0


async def shelved(store: AuditStore) -> bool:
    return await shelve_alerts(store=store) > 0


async def send(store: AuditStore, webhook: Webhook) -> int:
    return await send_alerts(store=store, sink=webhook, rng=random.Random(1))


async def due_now(postgres: Postgres) -> None:
    await postgres.execute("UPDATE ops.alerts SET next_attempt_at = now()")


async def rows(postgres: Postgres) -> list[Row]:
    return await postgres.fetch(
        "SELECT state, attempts, last_error, dedupe_key, "
        "extract(epoch FROM next_attempt_at - clock_timestamp())::double precision AS wait "
        "FROM ops.alerts ORDER BY id"
    )


async def test_an_alert_is_posted_once_with_its_fields(
    postgres: Postgres, store: AuditStore, receiver: Receiver, webhook: Webhook
) -> None:
    await fail(store, "generation-4")

    await send(store, webhook)
    await send(store, webhook)

    (body,) = receiver.received
    assert body == {
        "event_type": "quality.failed",
        "flow_name": "validate",
        "flow_run_id": "generation-4",
        "error_message": "too many negative amounts",
        "metadata": {"dataset": "orders"},
        "text": "validate · quality.failed · generation-4\ntoo many negative amounts",
    }
    (row,) = await rows(postgres)
    assert (row["state"], row["attempts"], row["last_error"]) == ("sent", 1, None)
    assert receiver.keys == [row["dedupe_key"]]


async def test_several_senders_send_each_alert_once(
    store: AuditStore, receiver: Receiver, webhook: Webhook
) -> None:
    await fail(store, *(f"generation-{n}" for n in range(30)))

    await asyncio.gather(*(send(store, webhook) for _ in range(4)))

    assert sorted(body["flow_run_id"] for body in receiver.received) == sorted(
        f"generation-{n}" for n in range(30)
    )


@pytest.mark.parametrize("status", [500, 503, 429, 0])
async def test_what_may_pass_is_tried_again_later(
    postgres: Postgres, store: AuditStore, receiver: Receiver, webhook: Webhook, status: int
) -> None:
    receiver.answers = [Answer(status)]
    await fail(store, "generation-4")

    await send(store, webhook)
    (row,) = await rows(postgres)
    assert row["state"] == "pending"
    assert row["last_error"] is not None
    assert 0 < row["wait"] <= 1

    await due_now(postgres)
    await send(store, webhook)
    (row,) = await rows(postgres)
    assert (row["state"], row["attempts"], len(receiver.received)) == ("sent", 2, 2)


async def test_a_server_that_names_a_time_is_given_it(
    postgres: Postgres, store: AuditStore, receiver: Receiver, webhook: Webhook
) -> None:
    receiver.answers = [Answer(429, (("Retry-After", "120"),))]
    await fail(store, "generation-4")

    await send(store, webhook)

    (row,) = await rows(postgres)
    assert 110 < row["wait"] <= 120


async def test_nobody_listening_is_tried_again_later(postgres: Postgres, store: AuditStore) -> None:
    nobody = open_webhook("http://127.0.0.1:9/hook")
    await fail(store, "generation-4")

    await send(store, nobody)
    await nobody.close()

    (row,) = await rows(postgres)
    assert (row["state"], row["last_error"]) == ("pending", "no answer from the webhook (ConnectError)")


async def test_a_refusal_is_final_and_logged(
    postgres: Postgres,
    store: AuditStore,
    receiver: Receiver,
    webhook: Webhook,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.answers = [Answer(403)]
    await fail(store, "generation-4")

    await send(store, webhook)
    await due_now(postgres)
    await send(store, webhook)

    (row,) = await rows(postgres)
    assert (row["state"], len(receiver.received)) == ("unsent", 1)
    assert "answered 403" in row["last_error"]
    assert "answered 403" in caplog.text
    assert "127.0.0.1" not in caplog.text


async def test_an_address_that_is_none_is_final(postgres: Postgres, store: AuditStore) -> None:
    wrong = open_webhook("ftp://somewhere/hook")
    await fail(store, "generation-4")

    await send(store, wrong)
    await wrong.close()

    (row,) = await rows(postgres)
    assert row["state"] == "unsent"
    assert "DRP_ALERT_WEBHOOK_URL" in row["last_error"]


async def test_an_alert_is_given_up_after_its_last_attempt(
    postgres: Postgres, store: AuditStore, receiver: Receiver, webhook: Webhook
) -> None:
    receiver.answers = [Answer(503)]
    await fail(store, "generation-4")
    await postgres.execute("UPDATE ops.alerts SET attempts = $1", MAX_ATTEMPTS - 1)

    await send(store, webhook)

    (row,) = await rows(postgres)
    assert (row["state"], row["attempts"]) == ("unsent", MAX_ATTEMPTS)
    assert "after 30 attempts" in row["last_error"]


async def test_a_sender_that_died_gives_its_alert_up_to_others(
    postgres: Postgres, store: AuditStore, receiver: Receiver, webhook: Webhook
) -> None:
    await fail(store, "generation-4")
    await store.claim_alerts(5)

    assert await send(store, webhook) == 0
    await due_now(postgres)
    assert await send(store, webhook) == 1
    assert len(receiver.received) == 1


async def test_without_a_webhook_alerts_are_logged_and_sent_once_one_is_set(
    postgres: Postgres,
    store: AuditStore,
    receiver: Receiver,
    webhook: Webhook,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    await fail(store, "generation-4", "generation-5")
    await postgres.execute(
        "UPDATE ops.alerts SET created_at = now() - interval '2 days' WHERE flow_run_id = 'generation-5'"
    )

    assert await shelve_alerts(store=store) == 2
    assert {row["state"] for row in await rows(postgres)} == {"unsent"}
    assert "too many negative amounts" in caplog.text

    assert await store.take_up_shelved(why=NO_WEBHOOK) == 1
    await send(store, webhook)
    assert [body["flow_run_id"] for body in receiver.received] == ["generation-4"]


async def test_a_test_alert_takes_the_way_of_real_ones(
    postgres: Postgres, store: AuditStore, receiver: Receiver, webhook: Webhook
) -> None:
    testing = asyncio.create_task(send_test_alert(postgres, actor="ann"))
    await until(lambda: sent(store, webhook))

    outcome = await testing
    assert (outcome.state, outcome.attempts, outcome.error) == ("sent", 1, None)
    assert receiver.received[0]["event_type"] == "alert.test"


async def test_a_test_alert_says_why_nobody_got_it(postgres: Postgres, store: AuditStore) -> None:
    testing = asyncio.create_task(send_test_alert(postgres, actor="ann"))
    await until(lambda: shelved(store))
    assert (await testing).error == NO_WEBHOOK

    with pytest.raises(Transient, match="no sender took it"):
        await send_test_alert(postgres, actor="ann", wait=0.1)
