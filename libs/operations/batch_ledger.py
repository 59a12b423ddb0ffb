"""The ledger of one batch, beside the rows that are there for it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from libs.errors import Permanent

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres, Row
    from libs.datasets import Dataset

__all__ = ["BatchLedger", "batch_ledger"]

_DATASET: Final = "SELECT dataset FROM ops.batches WHERE id = $1"

_COUNTED: Final = """
-- one row: what the batch counted, and its rows, at one moment
SELECT b.id AS batch, b.dataset, b.status, b.received, b.accepted, b.duplicate, b.quarantined, b.conflicts,
       b.dead_lettered, b.received + b.dead_lettered AS landed, b.generation,
       (SELECT count(*) FROM {raw} WHERE batch_id = b.id) AS raw_rows,
       (SELECT count(*) FROM raw.quarantine WHERE batch_id = b.id) AS quarantine_rows
FROM ops.batch_status b WHERE b.id = $1
"""


class BatchLedger(msgspec.Struct, frozen=True, kw_only=True):
    """received = accepted + duplicate + quarantined, conflicts being some of the quarantined; landed = received +
    dead_lettered. raw_rows and quarantine_rows are counted now; problems says where they differ from that."""

    batch: uuid.UUID
    dataset: str
    status: str
    landed: int
    received: int
    accepted: int
    duplicate: int
    quarantined: int
    conflicts: int
    dead_lettered: int
    raw_rows: int
    quarantine_rows: int
    generation: int | None
    problems: list[str]


async def batch_ledger(
    postgres: Postgres, datasets: Mapping[str, Dataset], batch_id: uuid.UUID
) -> BatchLedger:
    """
    Raises:
        Permanent: there is no such batch, or its dataset is none of these.
    """
    name = await postgres.fetchval(_DATASET, batch_id)
    if name not in datasets:
        what = f"there is no batch {batch_id}" if name is None else f"batch {batch_id} is of dataset {name}"
        raise Permanent(what, fix="drp batches ls" if name is None else "DRP_DATASETS_DIR, with that dataset")
    row = await postgres.fetchrow(_COUNTED.format(raw=datasets[name].raw_table), batch_id)
    if row is None:
        raise Permanent(f"there is no batch {batch_id}", fix="drp batches ls")
    return BatchLedger(**dict(row), problems=_problems(row))


def _problems(row: Row) -> list[str]:
    compared = (
        (
            "received",
            row["received"],
            row["accepted"] + row["duplicate"] + row["quarantined"],
            "its parts are",
        ),
        ("accepted", row["accepted"], row["raw_rows"], "RAW has"),
        (
            "quarantined and dead-lettered",
            row["quarantined"] + row["dead_lettered"],
            row["quarantine_rows"],
            "quarantine has",
        ),
    )
    return [
        f"{said:,} {name}, but {where} {found:,}" for name, said, found, where in compared if said != found
    ]
