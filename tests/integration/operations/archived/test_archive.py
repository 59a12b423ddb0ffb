"""The archive read again: all of it is as it should be, and each damage is found."""

from __future__ import annotations

import gzip
import io
from uuid import uuid4

import pytest

from libs.adapters.objects import ObjectMissing
from libs.operations.archive import ArchiveReport, fetch, ls, verify_archive
from tests.integration.archiver.works import Works, an_event, orders_placed


async def filled(works: Works) -> None:
    """Two batches, one with quarantine, and a snapshot."""
    await works.land(*orders_placed(300), an_event(amount="NaN"))
    await works.publish()
    await works.land(an_event())
    await works.archive()


async def verified(works: Works) -> ArchiveReport:
    return await verify_archive(works.postgres, works.objects)


async def test_all_is_there_and_as_it_was_stored(works: Works) -> None:
    await filled(works)
    told: list[tuple[int, int]] = []

    found = await verify_archive(works.postgres, works.objects, on_progress=lambda *at: told.append(at))

    assert found.problems == []
    assert (found.objects, found.batches, found.generations, found.events) == (7, 2, 1, 301)
    assert (found.unarchived, found.unlisted) == (0, 0)
    assert found.bytes == sum([head.bytes async for head in works.objects.list("")])
    assert told[-1] == (7, 7)


async def test_a_missing_object_is_found(works: Works) -> None:
    await filled(works)
    key = await works.key(".quarantine.jsonl.gz")
    await works.remove(key)

    assert (await verified(works)).problems == [f"{key}: is missing"]


async def test_a_missing_manifest_is_found(works: Works) -> None:
    await filled(works)
    key = await works.key("/manifest.json")
    await works.remove(key)

    assert (await verified(works)).problems == [f"{key}: is missing"]


@pytest.mark.parametrize("ending", [".quarantine.jsonl.gz", ".parquet", "/manifest.json"])
async def test_one_changed_byte_is_found(works: Works, ending: str) -> None:
    await filled(works)
    key = await works.key(ending)
    body = bytearray(await works.objects.get(key))
    body[len(body) // 2] ^= 1
    await works.overwrite(key, bytes(body))

    problems = (await verified(works)).problems
    assert problems
    assert all(problem.startswith(key) for problem in problems)


async def test_other_lines_in_a_sound_document_are_found(works: Works) -> None:
    await filled(works)
    key = await works.key(".quarantine.jsonl.gz")
    await works.overwrite(key, gzip.compress(b"{}\n{}\n"))

    text = "\n".join((await verified(works)).problems)
    assert "its lines are not those that its manifest says" in text
    assert "it has 2 lines, its manifest says 1" in text


async def test_a_document_that_breaks_off_is_found(works: Works) -> None:
    await filled(works)
    key = await works.key(".quarantine.jsonl.gz")
    await works.overwrite(key, (await works.objects.get(key))[:-20])

    assert f"{key}: it breaks off" in (await verified(works)).problems


async def test_an_archived_batch_whose_rows_changed_is_found(works: Works) -> None:
    await filled(works)
    await works.postgres.execute("DELETE FROM raw.orders_raw WHERE source_order_id = 'o-7'")

    (problem,) = (await verified(works)).problems
    assert problem.endswith("raw: 300 archived, 299 in Postgres, the ledger counts 300")


async def test_a_batch_or_generation_that_is_only_called_archived_is_found(works: Works) -> None:
    await filled(works)
    await works.postgres.execute("DELETE FROM ops.archive_objects")

    problems = (await verified(works)).problems
    assert len(problems) == 3
    assert all(
        problem.endswith("is marked as archived, and no object of it is known") for problem in problems
    )


async def test_what_waits_and_what_nobody_lists_is_counted(works: Works) -> None:
    await filled(works)
    await works.land(an_event())
    await works.overwrite(
        f"raw/orders/ingest_date=2026-01-01/batch_id={uuid4()}.jsonl.gz", b"left by a crash"
    )

    found = await verified(works)
    assert (found.problems, found.unarchived, found.unlisted) == ([], 1, 1)


async def test_objects_are_listed_by_batch_and_by_generation_and_can_be_fetched(works: Works) -> None:
    await filled(works)
    batch = (await works.batch())["id"]

    of_batch = await ls(works.postgres, batch=batch)
    of_generation = await ls(works.postgres, generation=1)

    assert {row["kind"] for row in of_batch} == {"raw", "manifest"}
    assert {row["kind"] for row in of_generation} == {"snapshot", "manifest"}
    assert len(await ls(works.postgres)) == 7
    sink = io.BytesIO()
    assert await fetch(works.objects, of_batch[0]["key"], sink) == len(sink.getvalue())
    with pytest.raises(ObjectMissing):
        await fetch(works.objects, "raw/none", sink)
