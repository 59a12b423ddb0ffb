"""A closed batch in the object store: what landed, what was refused, and the manifest that says it is whole."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from libs.adapters.objects import Objects
from libs.contracts.events import ArchiveStored, StepFailed
from libs.errors import Transient
from libs.pipeline.archive import BatchManifest, decode_manifest
from libs.testing.servers import S3Endpoint
from services.archiver.store import ArchiveStore
from tests.contract.objects.lossy import LossyProxy
from tests.integration.archiver.works import Works, an_event, lines_of, open_objects, orders_placed


async def manifest_of(works: Works) -> BatchManifest:
    return decode_manifest(await works.objects.get(await works.key("manifest.json")), BatchManifest)


async def test_the_original_payloads_stand_there_with_their_envelopes(works: Works) -> None:
    event = an_event("o-1", gift={"note": "for you", "wrap": [1, 2.50]})
    event |= {"subject": "order/1", "tracestate": "a=b", "region": "eu"}
    batch = await works.land(event, an_event("o-2"))

    assert await works.archive() == 1

    day = batch["closed_at"].date().isoformat()
    key = await works.key(".jsonl.gz")
    assert key == f"raw/orders/ingest_date={day}/batch_id={batch['id']}.jsonl.gz"
    first, second = lines_of(await works.objects.get(key))
    assert {first["data"]["order_id"], second["data"]["order_id"]} == {"o-1", "o-2"}
    line = first if first["data"]["order_id"] == "o-1" else second
    assert line["data"] == event["data"]
    assert line["envelope"] == {
        **{name: value for name, value in event.items() if name != "data"},
        "time": "2026-01-02T03:04:05.000000Z",
        "drporigin": "live",
    }


async def test_lines_stand_in_the_order_of_landing(works: Works) -> None:
    await works.land(*orders_placed(300))
    await works.archive()

    lines = lines_of(await works.objects.get(await works.key(".jsonl.gz")))
    rows = await works.ingestor.raw()
    assert [line["envelope"]["id"] for line in lines] == [row["event_id"] for row in rows]
    assert [line["slot"] for line in lines] == [
        f"{row['stream_entry_id']}/{row['stream_position']}" for row in rows
    ]


async def test_the_manifest_says_what_is_there(works: Works) -> None:
    batch = await works.land(*orders_placed(3), an_event(amount="NaN"), b"{}")
    await works.archive()

    manifest = await manifest_of(works)
    raw, quarantine = manifest.objects
    body = await works.objects.get(raw.key)
    assert (manifest.dataset, manifest.batch_id, manifest.count) == ("orders", batch["id"], 3)
    assert (manifest.received, manifest.quarantined, quarantine.records) == (5, 2, 2)
    assert (manifest.sha256, manifest.bytes) == (hashlib.sha256(body).hexdigest(), len(body))
    assert manifest.content_sha256 == raw.content.removeprefix("sha256:")
    assert manifest.closed_at == batch["closed_at"]
    recorded = await works.recorded()
    assert {key: (row["kind"], row["records"], row["sha256"]) for key, row in recorded.items()} == {
        raw.key: ("raw", 3, raw.sha256),
        quarantine.key: ("quarantine", 2, quarantine.sha256),
        await works.key("manifest.json"): (
            "manifest",
            3,
            hashlib.sha256(await works.objects.get(await works.key("manifest.json"))).hexdigest(),
        ),
    }


async def test_refused_bytes_stand_beside_it_with_the_reason(works: Works) -> None:
    await works.land(an_event("o-1"), b'{"specversion":"1.0"}')
    await works.archive()

    (line,) = lines_of(await works.objects.get(await works.key(".quarantine.jsonl.gz")))
    assert base64.b64decode(line["original"]) == b'{"specversion":"1.0"}'
    assert (line["reason"], line["disposition"]) == ("not_an_event", "quarantined")


async def test_bytes_of_any_kind_and_length_come_back(works: Works) -> None:
    original = bytes(range(256)) * 40
    await works.land(original)
    await works.archive()

    (line,) = lines_of(await works.objects.get(await works.key(".quarantine.jsonl.gz")))
    assert base64.b64decode(line["original"]) == original


async def test_a_batch_of_refused_events_alone_is_archived(works: Works) -> None:
    await works.land(b"not json")
    assert await works.archive() == 1

    assert len(await works.keys()) == 2
    assert (await manifest_of(works)).sha256 is None


async def test_a_batch_of_duplicates_alone_has_a_manifest(works: Works) -> None:
    event = an_event("o-1")
    await works.land(event)
    await works.land(event)
    assert await works.archive() == 2

    assert [key.rpartition(".")[2] for key in await works.keys()].count("json") == 2
    assert (await works.batch())["archived_at"] is not None


async def test_text_that_could_confuse_a_copy_comes_back_as_it_was(works: Works) -> None:
    odd = 'a\\b"c\td\ne\r\x01\x02\x7f\\.,\u2028 ü 漢 \U0001f600 \\n'
    await works.land(an_event("o-1", customer_id=odd, note={odd: [odd, "\\.", ""]}))
    await works.archive()

    (line,) = lines_of(await works.objects.get(await works.key(".jsonl.gz")))
    assert line["data"]["customer_id"] == odd
    assert line["data"]["note"] == {odd: [odd, "\\.", ""]}


async def test_it_is_told_once_in_the_batches_trace(works: Works) -> None:
    batch = await works.land(an_event("o-1"))
    await works.archive()
    await works.archive()

    (stored,) = await works.told(ArchiveStored)
    assert (stored.kind, stored.batch_id, stored.records) == ("raw", batch["id"], 1)
    assert [*stored.objects, stored.manifest] == sorted(await works.keys())
    document = json.loads(
        await works.postgres.fetchval("SELECT document FROM ops.outbox WHERE type = 'archive.stored'")
    )
    assert document["traceparent"].split("-")[1] == batch["traceparent"].split("-")[1]
    assert await works.postgres.fetchval("SELECT count(*) FROM ops.inbox WHERE consumer = 'archiver'") == 1


class Crash(Exception):
    """What a kill -9 would do."""


class CrashesBeforePostgres(ArchiveStore):
    async def batch_stored(self, *_: Any, **__: Any) -> bool:
        raise Crash


class CrashesBeforeTheManifest(Objects):
    async def put_once(self, key: str, *args: Any, **kwargs: Any) -> Any:
        if key.endswith("manifest.json"):
            raise Crash
        return await super().put_once(key, *args, **kwargs)


async def crash_before_postgres(works: Works) -> None:
    store = CrashesBeforePostgres(works.postgres, ["orders"])
    with pytest.raises(Crash):
        await works.archiver(store=store).archive_waiting()


async def test_a_crash_between_objects_and_manifest_leaves_nothing_half(works: Works, s3: S3Endpoint) -> None:
    await works.land(*orders_placed(5), b"{}")
    crashing = await CrashesBeforeTheManifest.open(s3.url, s3.bucket, s3.access_key, s3.secret_key, s3.region)
    with pytest.raises(Crash):
        await works.archiver(crashing).archive_waiting()
    await crashing.close()
    assert len(await works.keys()) == 2
    assert await works.recorded() == {}

    assert await works.archive() == 1

    assert sorted(await works.recorded()) == await works.keys()
    assert len(await works.keys()) == 3


async def test_a_crash_before_the_mark_in_postgres_is_made_good(works: Works) -> None:
    await works.land(*orders_placed(5))
    await crash_before_postgres(works)
    before = {key: await works.objects.get(key) for key in await works.keys()}

    assert await works.archive() == 1

    assert {key: await works.objects.get(key) for key in await works.keys()} == before
    assert sorted(await works.recorded()) == sorted(before)


async def test_what_another_version_stored_stands(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lines compressed otherwise: what the store holds is what the manifest and Postgres say."""
    await works.land(*orders_placed(50))
    await crash_before_postgres(works)
    key = await works.key(".jsonl.gz")
    before = await works.objects.get(key)
    manifest = await works.key("manifest.json")
    monkeypatch.setattr("services.archiver.documents._LEVEL", 9)

    assert await works.archive() == 1

    assert (await works.recorded())[key]["sha256"] == hashlib.sha256(before).hexdigest()
    assert (await works.recorded())[manifest]["bytes"] == len(await works.objects.get(manifest))


async def test_a_manifest_written_under_an_older_contract_stands(works: Works) -> None:
    await works.land(*orders_placed(5))
    await crash_before_postgres(works)
    works.dataset = replace(works.dataset, version="1.1.0")

    assert await works.archive() == 1

    body = await works.objects.get(await works.key("manifest.json"))
    assert decode_manifest(body, BatchManifest).contract_version == "1.0.0"
    recorded = (await works.recorded())[await works.key("manifest.json")]
    assert recorded["sha256"] == hashlib.sha256(body).hexdigest()


async def test_a_manifest_that_says_something_else_is_not_taken_for_ours(works: Works) -> None:
    await works.land(*orders_placed(5))
    await crash_before_postgres(works)
    key = await works.key("manifest.json")
    await works.overwrite(key, (await works.objects.get(key)).replace(b'"count": 5', b'"count": 6'))

    assert await works.archive() == 0

    (failed,) = await works.told(StepFailed)
    assert "another content" in failed.error


async def test_two_archivers_store_and_tell_it_once(works: Works) -> None:
    await works.land(*orders_placed(20))
    first, second = works.archiver(), works.archiver()
    await first.archive_waiting()
    await works.postgres.execute("UPDATE ops.batches SET archived_at = NULL")

    await second.archive_waiting()

    assert len(await works.told(ArchiveStored)) == 1
    assert len(await works.recorded()) == 2


async def test_a_lost_reply_of_the_store_leaves_one_archive(works: Works, s3: S3Endpoint) -> None:
    await works.objects.ensure_bucket()
    await works.land(*orders_placed(5))
    async with LossyProxy(s3.url) as proxy:
        objects = await open_objects(s3, proxy.url)
        await objects.ensure_bucket()
        proxy.lose_replies = 1
        assert await works.archiver(objects).archive_waiting() == 1
        await objects.close()

    assert proxy.lost == 1
    assert len(await works.keys()) == 2


async def test_while_the_store_is_away_everything_waits_and_says_so(
    works: Works, unused_tcp_port: int
) -> None:
    await works.land(an_event("o-1"))
    away = await Objects.open(f"http://127.0.0.1:{unused_tcp_port}", "drp", "a", "b", "us-east-1")
    archiver = works.archiver(away)
    with pytest.raises(Transient):
        await archiver.archive_waiting()
    await away.close()

    assert archiver.trouble is not None
    assert (await works.batch())["archived_at"] is None
    assert await works.told(StepFailed) == []
    assert await works.archive() == 1


async def test_a_batch_that_cannot_be_archived_is_told_of_once_and_stops_no_other(works: Works) -> None:
    spoilt = await works.land(an_event("o-1"))
    await works.objects.ensure_bucket()
    day = spoilt["closed_at"].date().isoformat()
    await works.overwrite(f"raw/orders/ingest_date={day}/batch_id={spoilt['id']}.jsonl.gz", b"something else")
    fine = await works.land(an_event("o-2"))
    archiver = works.archiver()

    assert await archiver.archive_waiting() == 1
    assert await archiver.archive_waiting() == 0
    assert await works.archive() == 0

    (failed,) = await works.told(StepFailed)
    assert (failed.step, failed.batch_id) == ("archive", spoilt["id"])
    assert "another content" in failed.error
    rows = await works.postgres.fetch("SELECT id FROM ops.batches WHERE archived_at IS NOT NULL")
    assert [row["id"] for row in rows] == [fine["id"]]


async def test_rows_that_the_ledger_does_not_count_are_not_archived(works: Works) -> None:
    await works.land(*orders_placed(3))
    await works.postgres.execute("DELETE FROM raw.orders_raw WHERE source_order_id = 'o-1'")

    assert await works.archive() == 0

    (failed,) = await works.told(StepFailed)
    assert "2 rows" in failed.error
    assert "counts 3" in failed.error


async def test_replicas_share_the_work_and_put_each_object_once(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        await works.land(*orders_placed(50, start=number * 50))
    put: list[str] = []
    put_once = Objects.put_once

    async def counted(objects: Objects, key: str, *args: Any, **named: Any) -> Any:
        put.append(key)
        return await put_once(objects, key, *args, **named)

    monkeypatch.setattr(Objects, "put_once", counted)
    replicas = [works.archiver() for _ in range(3)]
    done = await asyncio.gather(*(replica.archive_waiting() for replica in replicas))

    assert sum(done) == 9
    assert sorted(put) == await works.keys()
    assert len(put) == 2 * 9
    assert len(await works.told(ArchiveStored)) == 9


async def test_what_is_in_another_replica_s_hands_is_left_to_it(works: Works) -> None:
    await works.land(an_event("o-1"))
    store = ArchiveStore(works.postgres, [works.dataset.name])
    (waiting,) = await store.batches()
    async with store.turn(waiting) as ours:
        assert ours
        assert await works.archive() == 0
    assert await works.archive() == 1
    async with store.turn(waiting) as ours:
        assert not ours, "it is archived"
