"""What an operator is told first: how the flows do, and what waits for a person."""

from __future__ import annotations

from typing import Any

from libs.operations.actions import acting
from libs.operations.batches import hold
from libs.operations.health import Concern, concerns, flow_health, recent_actions
from libs.operations.quarantine import Selection, discard
from libs.operations.warehouse import resume, rollback
from tests.integration.archiver.works import Works, an_entry, an_event, orders_placed


async def found(works: Works, **limits: Any) -> dict[str, Concern]:
    """The concerns that there are, by name."""
    told = {"deadline": 300.0, "max_age": 2.0, "archive": True} | limits
    return {each.what: each for each in await concerns(works.postgres, **told) if each.count}


async def test_nothing_waits_on_a_platform_where_all_is_done(works: Works) -> None:
    await works.land(*orders_placed(2))
    await works.publish()
    await works.archive()
    assert await found(works) == {}
    assert len(await concerns(works.postgres, deadline=1, max_age=1, archive=True)) == 8


async def test_what_is_on_its_way_needs_nobody_until_its_deadline(works: Works) -> None:
    await works.land(*orders_placed(2))
    fresh = await found(works)
    assert {what: each.needs_person for what, each in fresh.items()} == {"unarchived": False}
    late = await found(works, deadline=0.0)
    assert {what: each.needs_person for what, each in late.items()} == {"unarchived": True, "late": True}
    assert late["late"].since is not None
    assert set(await found(works, deadline=0.0, archive=False)) == {"late"}


async def test_an_open_batch_is_late_once_nobody_closes_it(works: Works) -> None:
    await works.ingestor.land(an_entry(*orders_placed(1)))
    assert await found(works) == {}
    assert set(await found(works, deadline=0.0, max_age=0.0)) == {"late"}


async def test_a_blocked_batch_needs_a_person_and_a_held_one_does_not(works: Works) -> None:
    batch = (await works.land(*orders_placed(2)))["id"]
    await works.archive()
    await works.transformer.main.tend()
    await works.transformer.judge("fail")
    blocked = await found(works, deadline=0.0)
    assert {what: (each.count, each.needs_person) for what, each in blocked.items()} == {"blocked": (1, True)}

    async with acting(works.postgres) as connection:
        await hold(connection, batch, reason="a test", actor="ann")
    held = await found(works)
    assert {what: each.needs_person for what, each in held.items()} == {"held": False}


async def test_what_is_in_quarantine_needs_a_person_until_somebody_decides(works: Works) -> None:
    await works.land(an_event(amount="ten"))
    await works.archive()
    (only,) = (await found(works)).values()
    assert (only.what, only.count, only.needs_person, only.next) == (
        "quarantined",
        1,
        True,
        "drp quarantine ls",
    )
    async with acting(works.postgres) as connection:
        await discard(connection, Selection(), because="a test", actor="ann")
    assert await found(works) == {}


async def test_publishing_that_stands_still_and_unsent_alerts_need_a_person(works: Works) -> None:
    for start in (0, 10):
        await works.land(*orders_placed(2, start=start))
        await works.publish()
    await works.archive()
    async with acting(works.postgres) as connection:
        await rollback(connection, "orders", reason="a test", actor="ann")
    await works.postgres.execute(
        """
        INSERT INTO ops.alerts
            (dedupe_key, event_type, flow_name, flow_run_id, error_message, metadata, state, created_at)
        VALUES ('a', 't', 'f', 'r', 'e', '{}', 'unsent', now()), ('b', 't', 'f', 'r', 'e', '{}', 'sent', now()),
               ('c', 't', 'f', 'r', 'e', '{}', 'unsent', now() - interval '25 hours')
        """
    )
    seen = await found(works)
    assert (seen["pinned"].count, seen["pinned"].needs_person) == (1, True)
    assert (seen["alerts_unsent"].count, seen["alerts_unsent"].needs_person) == (1, True)
    async with acting(works.postgres) as connection:
        await resume(connection, "orders", actor="ann")
    assert "pinned" not in await found(works)


async def test_a_test_alert_that_failed_is_no_alert_that_reached_nobody(works: Works) -> None:
    await works.postgres.execute(
        """
        INSERT INTO ops.alerts (dedupe_key, event_type, flow_name, flow_run_id, error_message, metadata, state)
        VALUES ('a', 'alert.test', 'alert', 'a', 'e', '{}', 'unsent')
        """
    )
    assert await found(works) == {}


async def test_what_operators_did_is_told_newest_first(works: Works) -> None:
    batch = (await works.land(*orders_placed(2)))["id"]
    for number in range(3):
        async with acting(works.postgres, dry_run=number == 1) as connection:
            await hold(connection, batch, reason=f"reason {number}", actor="ann")
            await connection.execute("UPDATE ops.batches SET held_at = NULL WHERE id = $1", batch)
    seen = await recent_actions(works.postgres)
    assert [(row["action"], row["subject"], row["reason"]) for row in seen] == [
        ("batch.hold", f"batch:{batch}", "reason 2"),
        ("batch.hold", f"batch:{batch}", "reason 0"),
    ]
    assert len(await recent_actions(works.postgres, limit=1)) == 1


async def test_the_health_of_a_flow_is_that_of_its_last_day(works: Works) -> None:
    for status, seconds, hours, error in (
        ("success", 1.0, 1, None),
        ("failed", 2.0, 2, "earlier"),
        ("failed", 3.0, 1, "later"),
        ("success", 3.0, 3, None),
        ("failed", 99.0, 25, "long ago"),
    ):
        await works.postgres.execute(
            """
            INSERT INTO ops.pipeline_flow_audit (event_id, flow_name, flow_run_id, status, started_at, ended_at,
                duration_seconds, records_processed, metadata, error_message)
            SELECT gen_random_uuid(), 'ingest', 'x', $1, now() - make_interval(hours => $3),
                   now() - make_interval(hours => $3), $2, 1, '{}', $4
            """,
            status,
            seconds,
            hours,
            error,
        )

    (flow,) = await flow_health(works.postgres)

    assert (flow["runs"], flow["failed"], flow["success_rate"]) == (4, 2, 0.5)
    assert (flow["p95_seconds"], flow["last_error"]) == (3.0, "later")
    assert flow["last_run_at"] == flow["last_failed_at"]
