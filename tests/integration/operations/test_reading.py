"""What the platform tells of itself: batches, generations, verdicts, quarantine, flows."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from libs.errors import Permanent, Transient
from libs.operations import reading
from tests.integration.archiver.works import Works, an_entry, an_event, orders_placed


async def named(works: Works, *ids: str) -> None:
    """Closed batches of these ids, the first opened first."""
    for number, batch in enumerate(ids):
        await works.postgres.execute(
            """
            INSERT INTO ops.batches (id, dataset, state, opened_by, opened_at, closed_at, close_reason)
            VALUES ($1, 'orders', 'closed', 'test', now() + make_interval(secs => $2), now(), 'age')
            """,
            uuid.UUID(batch),
            float(number),
        )


async def judged(works: Works, generation: int, **statuses: str) -> None:
    """Rules of the generation, by name."""
    for rule, status in statuses.items():
        await works.postgres.execute(
            """
            INSERT INTO ops.quality_results (generation, rule, kind, status, expectation)
            VALUES ($1, $2, 'row', $3, 'expect')
            """,
            generation,
            rule,
            status,
        )


async def test_a_batch_is_found_by_its_id_by_its_start_and_as_the_last(works: Works) -> None:
    first, second = "aaaa0000-0000-4000-8000-000000000001", "aabb0000-0000-4000-8000-000000000002"
    await named(works, first, second)

    for text in (first, first.upper(), "aaaa", "AAAA0000-0"):
        assert str(await reading.find_batch_id(works.postgres, text)) == first
    assert str(await reading.find_batch_id(works.postgres, "last")) == second


@pytest.mark.parametrize(
    "text", ["", "%", "aa__", "cc", "3f0c8a52-7d1e-4c43-9a55-0a6b7c1d2e3f", "' OR true --"]
)
async def test_what_names_no_batch_is_said(works: Works, text: str) -> None:
    await named(works, "aaaa0000-0000-4000-8000-000000000001")
    with pytest.raises(Permanent, match="names no batch"):
        await reading.find_batch_id(works.postgres, text)


async def test_the_start_of_several_batches_names_them(works: Works) -> None:
    ids = [f"aaaa0000-0000-4000-8000-00000000000{number}" for number in range(5)]
    await named(works, *ids)

    with pytest.raises(Permanent, match="more than one batch") as raised:
        await reading.find_batch_id(works.postgres, "aa")
    assert raised.value.why == f"{ids[4]}, {ids[3]}, {ids[2]}, …"


async def test_the_last_of_no_batches_says_how_to_make_one(works: Works) -> None:
    with pytest.raises(Permanent, match=r"no batch yet.*drp publish"):
        await reading.find_batch_id(works.postgres, "last")


async def test_batches_are_listed_newest_first_by_dataset_and_status(works: Works) -> None:
    published = (await works.land(*orders_placed(2)))["id"]
    await works.publish()
    waiting = (await works.land(*orders_placed(2, start=10)))["id"]

    async def ids(**chosen: str) -> list[uuid.UUID]:
        return [row["id"] for row in await reading.batches(works.postgres, **chosen)]  # type: ignore[arg-type]

    assert await ids() == [waiting, published]
    assert await ids(status="published") == [published]
    assert await ids(status="closed", dataset="orders") == [waiting]
    assert await ids(dataset="payments") == []
    assert len(await reading.batches(works.postgres, limit=1)) == 1


async def test_a_batch_is_shown_with_all_that_became_of_it(works: Works) -> None:
    batch = (await works.land(*orders_placed(3), an_event(amount="NaN")))["id"]
    await works.publish()
    await works.archive()
    for run, metadata in ((str(batch), "{}"), ("1", f'{{"batches": ["{batch}"]}}'), ("2", "{}")):
        await works.postgres.execute(
            """
            INSERT INTO ops.pipeline_flow_audit (event_id, flow_name, flow_run_id, status, started_at, ended_at,
                duration_seconds, records_processed, metadata)
            VALUES (gen_random_uuid(), 'step', $1, 'success', now(), now(), 1, 1, $2)
            """,
            run,
            metadata,
        )

    found = await reading.batch(works.postgres, batch)

    assert (found["status"], found["accepted"], found["quarantined"], found["generation"]) == (
        "published",
        3,
        1,
        1,
    )
    assert [(row["number"], row["state"]) for row in found["generations"]] == [(1, "published")]
    assert {row["kind"] for row in found["objects"]} == {"raw", "quarantine", "manifest"}
    assert sorted(row["flow_run_id"] for row in found["audit"]) == sorted([str(batch), "1"])
    assert found["broken_rules"] == []


async def test_a_blocked_batch_shows_the_rules_that_stopped_it_and_no_others(works: Works) -> None:
    batch = (await works.land(*orders_placed(3)))["id"]
    await works.transformer.main.tend()
    number = await works.transformer.judge("fail")
    await judged(works, number, fine="pass", broken="fail", crashed="error", idle="not run")

    found = await reading.batch(works.postgres, batch)

    assert (found["status"], found["last_generation"], found["generation"]) == ("blocked", number, None)
    assert [row["rule"] for row in found["broken_rules"]] == ["broken", "crashed"]


async def test_what_readers_lack_is_listed_newest_first_with_what_is_blocked(works: Works) -> None:
    await works.land(*orders_placed(2))
    await works.publish()
    blocked = (await works.land(*orders_placed(3, start=10)))["id"]
    await works.transformer.main.tend()
    await works.transformer.judge("fail")
    later = (await works.land(*orders_placed(1, start=20)))["id"]
    await works.ingestor.land(an_entry(*orders_placed(1, start=30)))  # in a batch that is still open

    assert await reading.unpublished_batches(works.postgres, "orders") == [later, blocked]
    assert await reading.unpublished_batches(works.postgres, "payments") == []


async def test_a_batch_that_is_not_there_is_said(works: Works) -> None:
    unknown = uuid.uuid4()
    for look in (reading.batch(works.postgres, unknown), waited(works, unknown)):
        with pytest.raises(Permanent, match=f"there is no batch {unknown}"):
            await look


async def waited(works: Works, batch: uuid.UUID, *, timeout: float = 5, archive: bool = True) -> str:  # noqa: ASYNC109
    return await reading.wait_for_batch(works.postgres, batch, timeout=timeout, archive=archive)


async def test_a_batch_is_waited_for_until_readers_see_it_and_it_is_archived(works: Works) -> None:
    batch = (await works.land(*orders_placed(2)))["id"]
    with pytest.raises(Transient, match=f"batch {batch} is still closed after 0.1 s"):
        await waited(works, batch, timeout=0.1)

    await works.publish()
    with pytest.raises(Transient, match="is still not archived after"):
        await waited(works, batch, timeout=0.1)
    assert await waited(works, batch, archive=False) == "published"

    waiting = asyncio.create_task(waited(works, batch))
    await works.archive()
    assert await waiting == "published"


async def test_a_batch_that_the_gate_blocks_is_not_waited_for_any_longer(works: Works) -> None:
    batch = (await works.land(*orders_placed(2)))["id"]
    await works.transformer.main.tend()
    await works.transformer.judge("fail")

    assert await waited(works, batch) == "blocked"


@pytest.mark.parametrize("archived", [True, False])
async def test_a_batch_with_nothing_in_it_for_readers_is_done_once_archived(
    works: Works, archived: bool
) -> None:
    batch = (await works.land(an_event(amount="NaN")))["id"]
    if archived:
        await works.archive()
        assert await waited(works, batch) == "empty"
    else:
        with pytest.raises(Transient):
            await waited(works, batch, timeout=0.1)


async def test_batches_are_waited_for_until_they_are_closed(works: Works) -> None:
    await works.ingestor.land(an_entry(*orders_placed(2)))
    batch = (await works.batch())["id"]
    with pytest.raises(Transient, match=r"1 batches are still open .*no ingestor has closed them"):
        await reading.wait_until_closed(works.postgres, [batch], timeout=0.1)

    waiting = asyncio.create_task(reading.wait_until_closed(works.postgres, [batch]))
    await works.ingestor.landing.drain()
    await waiting
    await reading.wait_until_closed(works.postgres, [uuid.uuid4()], timeout=0)


async def test_generations_are_listed_newest_first_and_one_is_current(works: Works) -> None:
    for start in (0, 10):
        await works.land(*orders_placed(2, start=start))
        await works.publish()

    found = await reading.generations(works.postgres, dataset="orders")

    assert [(row["number"], row["state"], row["current"]) for row in found] == [
        (2, "published", True),
        (1, "retired", False),
    ]
    assert all(row["staging_hash"] and row["analytics_hash"] and row["sha256"] for row in found)
    assert await reading.generations(works.postgres, dataset="payments") == []
    assert await reading.generation(works.postgres, 1) == found[1]
    with pytest.raises(Permanent, match="there is no generation 9"):
        await reading.generation(works.postgres, 9)


async def test_a_candidate_is_not_current_before_anything_was_published(works: Works) -> None:
    await works.land(*orders_placed(2))
    await works.transformer.main.tend()
    assert [row["current"] for row in await reading.generations(works.postgres)] == [False]


async def test_verdicts_are_told_rule_by_rule_the_broken_ones_first(works: Works) -> None:
    await works.land(*orders_placed(2))
    await works.transformer.main.tend()
    number = await works.transformer.judge("fail")
    await judged(works, number, a_pass="pass", b_idle="not run", c_crash="error", d_broken="fail")
    for event in ("e-2", "e-1"):
        await works.postgres.execute(
            "INSERT INTO ops.quality_failures (generation, rule, source_system, event_id) VALUES ($1, 'r', 's', $2)",
            number,
            event,
        )

    (row,) = await reading.judged_generations(works.postgres)
    rules = await reading.quality_results(works.postgres, number)
    failures = await reading.quality_failures(works.postgres, number)

    assert (row["passed"], row["failed"], row["not_run"], row["errors"]) == (1, 1, 1, 1)
    assert (row["generation"], row["verdict"], row["broken"]) == (number, "fail", ["c_crash", "d_broken"])
    assert [rule["rule"] for rule in rules] == ["d_broken", "c_crash", "b_idle", "a_pass"]
    assert [failure["event_id"] for failure in failures] == ["e-1", "e-2"]
    assert len(await reading.quality_failures(works.postgres, number, limit=1)) == 1
    assert await reading.judged_generations(works.postgres, dataset="payments") == []


async def test_quarantine_is_told_newest_first_by_dataset_reason_and_batch(works: Works) -> None:
    first = (await works.land(an_event(amount="NaN"), an_event(amount="1.234")))["id"]
    second = (await works.land(b"\xff not json"))["id"]

    async def reasons(**chosen: object) -> list[str]:
        return [row["reason"] for row in await reading.quarantine(works.postgres, **chosen)]  # type: ignore[arg-type]

    assert await reasons() == ["bad_utf8", "not_exact", "wrong_type"]
    assert await reasons(batch_id=first) == ["not_exact", "wrong_type"]
    assert await reasons(reason="bad_utf8", dataset="orders") == ["bad_utf8"]
    assert await reasons(dataset="payments") == []
    assert await reasons(limit=1) == ["bad_utf8"]
    (row,) = await reading.quarantine(works.postgres, batch_id=second)
    event = await reading.quarantined_event(works.postgres, row["id"])
    assert (event["original"], event["batch_id"]) == (b"\xff not json", second)
    assert "original" not in row
    with pytest.raises(Permanent, match="nothing is quarantined under number 99"):
        await reading.quarantined_event(works.postgres, 99)


async def test_the_ledger_is_told_by_dataset(works: Works) -> None:
    assert await reading.ledger(works.postgres) == []
    again = an_event("o-1")
    await works.land(again, again, an_event(amount="NaN"))

    (row,) = await reading.ledger(works.postgres)

    assert (row["dataset"], row["landed"], row["accepted"], row["duplicate"], row["quarantined"]) == (
        "orders",
        3,
        1,
        1,
        1,
    )
    assert (row["unpublished"], row["published"]) == (1, 0)
