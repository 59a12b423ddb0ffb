"""A document of the archive that was kept as a file, published again."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.adapters.bus import Bus
from libs.datasets import load_dataset
from libs.errors import Permanent
from libs.operations.archive import fetch
from libs.operations.publish import publish_file
from tests.integration.archiver.works import Works, an_event, orders_placed
from tests.integration.operations.archived.test_replay import entries

PAYMENTS = Path(__file__).parents[3] / "data" / "datasets" / "payments"
UNREADABLE = b'{"specversion": "1.0", "id": "bad", "source": "urn:test:shop", "type": "x", "data": {}}'


async def kept(works: Works, folder: Path, kind: str = "raw") -> Path:
    """The batch's document, as `drp archive get` writes it."""
    (key,) = [key for key, row in (await works.recorded()).items() if row["kind"] == kind]
    with io.BytesIO() as body:
        await fetch(works.objects, key, body)
        return written(folder / f"{kind}.jsonl.gz", body.getvalue())


def written(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def lines_in(document: Path) -> bytes:
    return gzip.decompress(document.read_bytes())


@pytest.fixture
async def document(works: Works, tmp_path: Path) -> Path:
    await works.land(*orders_placed(5), UNREADABLE)
    await works.archive()
    return await kept(works, tmp_path)


async def test_where_its_events_have_landed_it_adds_nothing(
    works: Works, bus: Bus, redis_url: str, document: Path
) -> None:
    done = await publish_file(bus, works.dataset, document)
    await works.ingestor.land(*await entries(redis_url))

    assert (done.events, done.entries, done.unreadable, done.source) == (5, 1, 0, None)
    assert await works.ingestor.counts() == {"received": 11, "accepted": 5, "duplicate": 5, "quarantined": 1}


async def test_into_an_empty_platform_they_come_back_as_they_were(
    works: Works, bus: Bus, redis_url: str, document: Path
) -> None:
    def lasting(row: Any) -> dict[str, object]:
        passing = {
            "id",
            "ingested_at",
            "batch_id",
            "traceparent",
            "origin",
            "stream_entry_id",
            "stream_position",
        }
        return {name: value for name, value in row.items() if name not in passing}

    before = [lasting(row) for row in await works.ingestor.raw()]
    await works.postgres.execute(
        "TRUNCATE raw.orders_raw, raw.quarantine, ops.batches, ops.entries, ops.archive_objects CASCADE"
    )

    plain = written(document.with_suffix(""), lines_in(document))
    await publish_file(bus, works.dataset, plain)
    await works.ingestor.land(*await entries(redis_url))

    rows = await works.ingestor.raw()
    assert [lasting(row) for row in rows] == before
    assert {row["origin"] for row in rows} == {"replay"}
    assert await works.ingestor.counts() == {"received": 5, "accepted": 5}


async def test_what_was_refused_is_not_published_to_be_refused_again(
    works: Works, bus: Bus, document: Path
) -> None:
    refused = await kept(works, document.parent, "quarantine")
    with pytest.raises(Permanent, match="drp quarantine ls"):
        await publish_file(bus, works.dataset, refused)
    assert await bus.length("orders") == 0


async def test_events_that_have_their_own_identity_take_no_other(
    works: Works, bus: Bus, document: Path
) -> None:
    for other in (
        {"source": "urn:x"},
        {"time": datetime(2026, 1, 1, tzinfo=UTC)},
        {"mapping": {"amount": "x"}},
    ):
        with pytest.raises(Permanent, match="keep their source"):
            await publish_file(bus, works.dataset, document, **other)
    assert await bus.length("orders") == 0


async def test_another_dataset_s_document_is_told_apart(works: Works, bus: Bus, tmp_path: Path) -> None:
    await works.land({**an_event("o-1"), "dataschema": "urn:drp:orders:v1"})
    await works.archive()
    document = await kept(works, tmp_path)
    with pytest.raises(Permanent, match="--dataset orders"):
        await publish_file(bus, load_dataset(PAYMENTS), document)


async def test_a_document_that_breaks_off_says_so(works: Works, bus: Bus, document: Path) -> None:
    written(document, gzip.compress(lines_in(document))[:-12])
    with pytest.raises(Permanent, match="breaks off"):
        await publish_file(bus, works.dataset, document)


async def test_a_line_that_is_none_of_the_archive_s_says_so(works: Works, bus: Bus, document: Path) -> None:
    written(document, gzip.compress(lines_in(document) + b'{"envelope": 1}\n'))
    with pytest.raises(Permanent, match="can not be read"):
        await publish_file(bus, works.dataset, document)
