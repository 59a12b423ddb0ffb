"""Any accepted payload survives the archive: what is read from it has the same hash as RAW, on a real Postgres."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.adapters.warehouse import Database
from libs.operations.comparison import ARCHIVED, LIVE, Landings
from libs.pipeline.hashing import relation_hash
from tests.integration.archiver.works import Works

NUMBERS = itertools.count()

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
scalars = st.none() | st.booleans() | texts | numbers.map(lambda text: msgspec.Raw(text.encode()))
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
cents = st.integers(-(10**12) + 1, 10**12 - 1)
amounts = cents.map(lambda value: f"{'-' if value < 0 else ''}{abs(value) // 100}.{abs(value) % 100:02}")
moments = st.sampled_from(
    [
        "1969-12-31T23:59:59.999999Z",
        "2026-01-05",
        "2026-01-05T09:30:00",
        "2026-01-05T09:30:00.5+05:45",
        "2016-12-31T23:59:60Z",
        "9998-12-31T23:59:59Z",
        "0002-01-01T00:00:00Z",
    ]
)
orders = st.fixed_dictionaries(
    {
        "order_id": texts,
        "customer_id": texts,
        "amount": amounts | amounts.map(lambda text: msgspec.Raw(text.encode())),
        "created_at": moments,
    },
    optional={"note": documents, "amount2": scalars},
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "time": moments,
        "subject": texts,
        "traceparent": texts,
        "datacontenttype": st.just("application/json"),
        "tracestate": texts,
        "region": texts,
        "shard": st.integers(-(2**31), 2**31),
        "flag": st.booleans(),
    },
)


@given(events=st.lists(st.tuples(envelopes, orders), min_size=1, max_size=8))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_accepted_payload_survives_the_archive(
    works: Works, tmp_path: Path, events: list[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    batch = await works.land(
        *(
            msgspec.json.encode(
                {
                    "specversion": "1.0",
                    "id": f"e-{next(NUMBERS)}",
                    "source": "urn:any",
                    "type": "order.placed",
                    **envelope,
                    "data": data,
                }
            )
            for envelope, data in events
        )
    )
    assert batch["accepted"] == len(events)
    await works.archive()
    key = next(key for key in await works.keys() if key.endswith(f"{batch['id']}.jsonl.gz"))
    lines = gzip.decompress(await works.objects.get(key)).splitlines()

    def compare() -> list[str]:
        database = Database.candidate(tmp_path / f"{next(NUMBERS)}.duckdb")
        try:
            landings = Landings(database, works.dataset)
            landings.load_live(works.postgres.url, [batch["id"]], lambda _: None)
            columns = [column.name for column in works.dataset.columns]
            problems = landings.load_archived(batch["id"], lines, columns)
            hashes = {relation_hash(database, table, landings.compared) for table in (LIVE, ARCHIVED)}
            return problems or (landings.differences(5) if len(hashes) > 1 else [])
        finally:
            database.close()

    assert len(lines) == len(events)
    assert await asyncio.to_thread(compare) == []
