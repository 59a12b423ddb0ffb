"""What became of what was published: the dispositions of a producer's own entries, and the batches that took them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from libs.errors import Transient

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres

__all__ = ["Landed", "wait_until_landed"]

_EVERY: Final = 0.2

_LANDED: Final = """
-- one row: what the entries that landed have become
SELECT count(*) AS entries, coalesce(sum(accepted), 0)::bigint AS accepted,
       coalesce(sum(duplicate), 0)::bigint AS duplicate, coalesce(sum(quarantined), 0)::bigint AS quarantined,
       coalesce(sum(dead_lettered), 0)::bigint AS dead_lettered,
       coalesce(array_agg(DISTINCT batch_id), '{}') AS batches
FROM ops.entries WHERE stream = $1 AND entry_id = ANY($2::text[])
"""


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """Events by disposition; batches are those that took an entry, whoever else's they took."""

    accepted: int
    duplicate: int
    quarantined: int
    dead_lettered: int
    batches: list[uuid.UUID]


async def wait_until_landed(
    postgres: Postgres,
    stream: str,
    entry_ids: Sequence[str],
    *,
    timeout: float,  # noqa: ASYNC109 - of many looks
) -> Landed:
    """Wait until every one of the stream's entries has landed.

    Args:
        timeout: seconds.

    Raises:
        Transient: the time was up.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        (row,) = await postgres.fetch(_LANDED, stream, list(entry_ids))
        if (waiting := len(set(entry_ids)) - row["entries"]) == 0:
            return Landed(**{name: row[name] for name in Landed.__struct_fields__})
        if asyncio.get_running_loop().time() > deadline:
            raise Transient(
                f"{waiting} entries of {stream} have not landed after {timeout:g} s",
                why="no ingestor has taken them",
                fix="drp status (does the ingestor run?)",
            )
        await asyncio.sleep(_EVERY)
