"""What readers see, as Parquet in the object store; and the archive when its server dies, or is switched off."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from libs.contracts.events import ArchiveStored, StepFailed
from libs.pipeline.archive import SnapshotManifest, decode_manifest
from libs.runtime.embedded.objects import ObjectServer
from libs.runtime.processes import free_port
from libs.testing.servers import S3Endpoint
from services.archiver.handlers import leave_off
from services.archiver.store import ArchiveStore
from tests.integration.archiver.works import Works, an_event, open_objects, orders_placed


async def archive_states(works: Works) -> list[str]:
    rows = await works.postgres.fetch("SELECT archive_state FROM ops.generations ORDER BY number")
    return [row["archive_state"] for row in rows]


async def snapshots(works: Works) -> list[str]:
    return [key for key in await works.keys() if key.startswith("analytics/")]


async def test_every_mart_of_what_readers_see_is_archived(works: Works) -> None:
    await works.land(*orders_placed(3))
    number = await works.publish()
    await works.archive()

    row = await works.transformer.generation(number)
    folder = f"analytics/orders/snapshot_date={row['published_at'].date()}/generation={number}"
    assert await snapshots(works) == [f"{folder}/daily_order_metrics.parquet", f"{folder}/manifest.json"]
    table = pq.read_table(io.BytesIO(await works.objects.get(f"{folder}/daily_order_metrics.parquet")))
    assert [
        (str(day["order_date"]), day["total_orders"], str(day["total_amount"])) for day in table.to_pylist()
    ] == [("2026-01-02", 3, "3.75")]
    manifest = decode_manifest(await works.objects.get(f"{folder}/manifest.json"), SnapshotManifest)
    assert (manifest.count, manifest.generation, manifest.warehouse_sha256) == (1, number, row["sha256"])
    assert row["archive_state"] == "stored"
    told = [event for event in await works.told(ArchiveStored) if event.kind == "snapshot"]
    assert [(event.generation, event.records) for event in told] == [(number, 1)]


async def test_of_several_that_wait_the_newest_is_archived(works: Works) -> None:
    numbers = []
    for start in range(3):
        await works.land(*orders_placed(2, start=start * 2))
        numbers.append(await works.publish())
    await works.archive()

    assert await archive_states(works) == ["superseded", "superseded", "stored"]
    assert all(f"/generation={numbers[-1]}/" in key for key in await snapshots(works))


async def test_archiving_it_again_changes_no_byte(works: Works) -> None:
    await works.land(*orders_placed(3))
    await works.publish()
    await works.archive()
    before = {key: await works.objects.get(key) for key in await snapshots(works)}
    await works.postgres.execute("UPDATE ops.generations SET archive_state = 'pending'")

    assert await works.archive() == 1

    assert {key: await works.objects.get(key) for key in await snapshots(works)} == before


async def test_the_same_rows_in_other_bytes_are_the_same_snapshot(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    await works.land(*orders_placed(3))
    await works.publish()
    await works.archive()
    before = await works.recorded()
    await works.postgres.execute("UPDATE ops.generations SET archive_state = 'pending'")
    write = pq.ParquetWriter

    def another_version(*args: object, **kwargs: object) -> pq.ParquetWriter:
        return write(*args, **{**kwargs, "compression": "snappy"})

    monkeypatch.setattr(pq, "ParquetWriter", another_version)

    assert await works.archive() == 1

    after = await works.recorded()
    assert {key: row["sha256"] for key, row in after.items()} == {
        key: row["sha256"] for key, row in before.items()
    }


async def test_a_file_that_is_not_the_one_that_passed_is_not_archived(works: Works) -> None:
    await works.land(*orders_placed(3))
    number = await works.publish()
    path = works.transformer.warehouse.path_of((await works.transformer.generation(number))["file"])
    path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b"\0")
    await works.archive()

    (failed,) = await works.told(StepFailed)
    assert (failed.step, failed.generation) == ("archive", number)
    assert await snapshots(works) == []
    assert await archive_states(works) == ["pending"]


async def test_one_that_nobody_sees_and_whose_file_is_gone_is_superseded(works: Works) -> None:
    await works.land(*orders_placed(1))
    first = await works.publish()
    await works.land(*orders_placed(1, start=1))
    await works.publish()
    await works.archive()
    await works.postgres.execute(
        "UPDATE ops.generations SET archive_state = 'pending' WHERE number = $1", first
    )
    works.transformer.warehouse.remove((await works.transformer.generation(first))["file"])

    await works.archive()

    assert await archive_states(works) == ["superseded", "stored"]
    assert await works.told(StepFailed) == []


async def test_switched_off_it_asks_no_store_and_generations_do_not_wait(works: Works) -> None:
    await works.land(*orders_placed(1))
    await works.publish()

    await leave_off(ArchiveStore(works.postgres, ["orders"]))

    assert await archive_states(works) == ["off"]
    assert (await works.batch())["archived_at"] is None


async def test_what_is_archived_outlives_a_killed_server(works: Works, tmp_path: Path) -> None:
    """kill -9 right after the archive was told of; a new server on the same folder has every object."""
    server = ObjectServer(tmp_path / "own-objects", free_port())
    server.start()
    server.wait_ready()
    endpoint = S3Endpoint(server.url, "kept", server.access_key, server.secret_key, server.region)
    try:
        objects = await open_objects(endpoint)
        await works.land(*orders_placed(5), an_event(amount="NaN"))
        await works.publish()
        assert await works.archiver(objects).archive_waiting() == 2
        before = {head.key: await objects.get(head.key) async for head in objects.list("")}
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.kill()
        server.start()
        server.wait_ready()

        assert {head.key: await objects.get(head.key) async for head in objects.list("")} == before
        assert sorted(await works.recorded()) == sorted(before)
        await works.land(an_event("afterwards"))
        assert await works.archiver(objects).archive_waiting() == 1
        await objects.close()
    finally:
        server.stop()
