"""What the archiver keeps of what it hears."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import uuid4

from libs.adapters.bus import Entry
from libs.adapters.objects import Objects
from libs.contracts.events import WarehousePublished, encode_event, generation_subject
from libs.datasets import Dataset
from services.archiver.handlers import Archiver
from services.archiver.store import ArchiveStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def no_objects() -> Objects:
    raise AssertionError("nothing is to be stored")


def published(generation: int, *, dataset: str = "orders") -> Entry:
    event = WarehousePublished(
        dataset=dataset,
        started_at=NOON,
        ended_at=NOON,
        records=1,
        generation=generation,
        batches=[],
        version=1,
        sha256="x",
        reason="passed",
    )
    traceparent = f"00-{generation:032x}-b7ad6b7169203331-01"
    _, document = encode_event(
        event, cause=uuid4(), subject=generation_subject(generation), traceparent=traceparent
    )
    return Entry("drp.warehouse", f"{generation}-0", document)


async def test_of_all_generations_heard_of_only_the_newest_ones_trace_is_kept() -> None:
    datasets = cast("Mapping[str, Dataset]", {"orders": None, "payments": None})
    archiver = Archiver(cast("ArchiveStore", None), no_objects, datasets, Path())

    heard = [published(number) for number in (*range(1, 500), 3)]
    assert await archiver.hear([*heard, published(7, dataset="payments"), published(8, dataset="unknown")])

    assert {name: number for name, (number, _) in archiver._traces.items()} == {"orders": 499, "payments": 7}
