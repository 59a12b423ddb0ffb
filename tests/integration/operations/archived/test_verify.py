"""A rebuild from the archive alone has the same hashes as what readers see; and says so when it has not."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.datasets import load_datasets
from libs.errors import Permanent
from libs.operations.verify import Verification, verify_replay
from tests.integration.archiver.works import Works, an_event, lines_of, orders_placed


class Home:
    def __init__(self, home: Path) -> None:
        self.home = home


async def verified(works: Works, **options: Any) -> Verification:
    return await verify_replay(
        Home(works.root.parent), works.dataset, works.postgres, works.objects, **options
    )


async def test_everything_is_the_same_after_a_rebuild_from_the_archive_alone(works: Works) -> None:
    odd = {**an_event("o-odd", note={"b": [1e3, 2.50], "a": "ü\\n"}), "region": "eu", "shard": 3}
    plain = {
        **an_event("o-plain"),
        "subject": "order/1",
        "datacontenttype": "application/json",
        "tracestate": "a=b",
    }
    await works.land(*orders_placed(600), odd, plain, an_event(amount="NaN"))
    await works.publish()
    await works.land(
        {**an_event("o-3", amount="-5"), "time": "2026-01-03T00:00:00+02:00"},
        {**an_event("o-4", amount="7.00"), "time": "2026-01-03T00:00:00.123456Z"},
        *orders_placed(200, start=1_000),
    )
    await works.publish()
    await works.archive()

    done = await verified(works)

    assert done.problems == []
    assert done.identical
    assert [(layer.name, layer.identical, layer.differences) for layer in done.layers] == [
        ("raw", True, []),
        ("staging", True, []),
        ("analytics", True, []),
    ]
    assert (done.batches, done.rows) == (2, 804)
    assert [layer.live_rows for layer in done.layers] == [804, 802, 1]


async def test_an_event_as_large_as_may_be_is_the_same(works: Works) -> None:
    """The archive's own attributes, jsonb's spaces and its zeros would make it too large to be decoded."""
    event = an_event("o-1", note={"few": ["x"] * 100, "wide": [msgspec.Raw(b"1e2000")] * 1_000, "long": ""})
    del event["time"]
    room = 256 * 1024 - len(msgspec.json.encode(event))
    event["data"]["note"]["long"] = "y" * room
    assert len(msgspec.json.encode(event)) == 256 * 1024
    await works.land(msgspec.json.encode(event))
    await works.publish()
    await works.archive()

    done = await verified(works)

    assert (done.problems, done.identical, done.rows) == ([], True, 1)


async def test_a_row_that_was_changed_in_postgres_is_named(works: Works) -> None:
    await works.land(*orders_placed(5))
    await works.publish()
    await works.archive()
    await works.postgres.execute(
        'UPDATE raw.orders_raw SET amount = 99, raw_payload = raw_payload || \'{"amount": "99"}\' '
        "WHERE source_order_id = 'o-3'"
    )
    event = await works.postgres.fetchval("SELECT event_id FROM raw.orders_raw WHERE source_order_id = 'o-3'")

    done = await verified(works)

    assert not done.identical
    raw, staging, analytics = done.layers
    assert raw.differences == [f"event {event} from urn:test:shop differs in amount, raw_payload"]
    assert (staging.identical, analytics.identical) == (True, True)


async def test_a_row_that_was_lost_in_postgres_is_named(works: Works) -> None:
    await works.land(*orders_placed(5))
    await works.publish()
    await works.archive()
    event = await works.postgres.fetchval(
        "DELETE FROM raw.orders_raw WHERE source_order_id = 'o-3' RETURNING event_id"
    )

    done = await verified(works)

    assert done.layers[0].differences == [f"event {event} from urn:test:shop only in the archive"]


async def test_a_generation_that_says_something_else_is_found_by_its_keys(works: Works) -> None:
    """Staging was made from other rows than RAW and the archive hold."""
    await works.land(*orders_placed(5))
    await works.postgres.execute("UPDATE raw.orders_raw SET amount = 99 WHERE source_order_id = 'o-3'")
    await works.publish()
    await works.postgres.execute("UPDATE raw.orders_raw SET amount = 3.25 WHERE source_order_id = 'o-3'")
    await works.archive()

    done = await verified(works)

    assert not done.identical
    raw, staging, analytics = done.layers
    assert raw.identical
    assert staging.differences == [
        "staging.orders: source_order_id o-3: only live",
        "staging.orders: source_order_id o-3: only rebuilt",
    ]
    assert len(analytics.differences) == 2


async def test_no_more_differences_are_named_than_wanted(works: Works) -> None:
    await works.land(*orders_placed(50))
    await works.publish()
    await works.archive()
    await works.postgres.execute("UPDATE raw.orders_raw SET subject = 'x'")

    done = await verified(works, examples=3)

    assert len(done.layers[0].differences) == 3
    assert done.layers[0].differences[0].endswith("differs in subject")


async def test_a_batch_that_is_not_archived_is_a_problem(works: Works) -> None:
    batch = await works.land(*orders_placed(5))
    await works.publish()
    await works.objects.ensure_bucket()

    done = await verified(works)

    assert not done.identical
    assert done.problems == [f"1 batches that readers see are not archived: {batch['id']}"]


async def test_a_damaged_document_is_said(works: Works) -> None:
    await works.land(*orders_placed(5))
    await works.publish()
    await works.archive()
    key = await works.key(".jsonl.gz")
    text = gzip.decompress(await works.objects.get(key))
    await works.overwrite(key, gzip.compress(text.replace(b"3.25", b"9.25")))

    with pytest.raises(Permanent, match="damaged"):
        await verified(works)


async def test_held_batches_are_no_part_of_it(works: Works) -> None:
    await works.land(*orders_placed(5))
    held = await works.land(*orders_placed(5, start=10))
    await works.postgres.execute("UPDATE ops.batches SET held_at = now() WHERE id = $1", held["id"])
    await works.publish()
    await works.archive()

    done = await verified(works)

    assert (done.identical, done.batches, done.rows) == (True, 1, 5)


async def test_a_column_that_came_later_is_empty_on_both_sides(works: Works) -> None:
    """An optional field that events had before the contract knew it."""
    await works.land({**an_event("o-1", coupon="X"), "dataschema": "urn:drp:orders:v1"})
    await works.publish()
    await works.archive()
    key = await works.key(".manifest.json")
    body = (await works.objects.get(key)).replace(b'"customer_id",', b"")
    await works.overwrite(key, body)
    await works.postgres.execute("ALTER TABLE raw.orders_raw ALTER customer_id DROP NOT NULL")
    await works.postgres.execute("UPDATE raw.orders_raw SET customer_id = NULL")

    assert (await verified(works)).layers[0].identical


async def test_nothing_published_is_said(works: Works) -> None:
    with pytest.raises(Permanent, match="nothing of orders is published"):
        await verified(works)


async def test_the_folder_it_worked_in_is_gone(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await works.land(*orders_placed(5))
    await works.publish()
    await works.archive()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()

    await verified(works)

    assert not [path for path in (tmp_path / "t").iterdir() if path.name.startswith("drp-verify-")]


async def test_raw_can_be_made_anew_from_the_archive_alone(works: Works) -> None:
    """Every column that says something comes back from the documents."""
    events = [{**event, "subject": "s", "region": "eu"} for event in orders_placed(20)]
    await works.land(*events)
    await works.archive()
    rows = {row["event_id"]: row for row in await works.ingestor.raw()}

    lines = lines_of(await works.objects.get(await works.key(".jsonl.gz")))

    assert len(lines) == len(rows)
    for line in lines:
        row = rows[line["envelope"]["id"]]
        assert line["data"] == row["raw_payload"]
        assert line["envelope"]["source"] == row["source_system"]
        assert line["envelope"]["subject"] == row["subject"]
        assert line["envelope"]["region"] == row["extensions"]["region"]
        assert line["slot"] == f"{row['stream_entry_id']}/{row['stream_position']}"
    assert load_datasets()["orders"].name == works.dataset.name
