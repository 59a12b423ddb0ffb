"""One batch's counts beside the rows that are there for it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from libs.errors import Permanent
from libs.operations.batch_ledger import batch_ledger
from tests.integration.archiver.works import Works, an_event


async def test_received_is_accepted_duplicate_and_quarantined(works: Works) -> None:
    await works.land(an_event("o-1", event_id="e-1"))
    conflict, repeat = an_event("o-1", event_id="e-1", amount="9.00"), an_event("o-1", event_id="e-1")
    batch = await works.land(conflict, an_event("o-2"), an_event("o-3", amount="ten"), repeat)

    ledger = await batch_ledger(works.postgres, {"orders": works.dataset}, batch["id"])

    assert (ledger.dataset, ledger.status, ledger.landed, ledger.received) == ("orders", "closed", 4, 4)
    assert (ledger.accepted, ledger.duplicate, ledger.quarantined, ledger.conflicts) == (1, 1, 2, 1)
    assert (ledger.raw_rows, ledger.quarantine_rows, ledger.problems) == (1, 2, [])


async def test_rows_that_are_missing_are_a_problem(works: Works) -> None:
    batch = await works.land(an_event("o-1"), an_event("o-2", amount="ten"))
    await works.postgres.execute("DELETE FROM raw.orders_raw")
    await works.postgres.execute("DELETE FROM raw.quarantine")

    ledger = await batch_ledger(works.postgres, {"orders": works.dataset}, batch["id"])

    assert ledger.problems == [
        "1 accepted, but RAW has 0",
        "1 quarantined and dead-lettered, but quarantine has 0",
    ]


async def test_a_batch_that_is_not_there_says_so(works: Works) -> None:
    with pytest.raises(Permanent, match="there is no batch"):
        await batch_ledger(works.postgres, {"orders": works.dataset}, uuid4())
    batch = await works.land(an_event("o-1"))
    with pytest.raises(Permanent, match="is of dataset orders"):
        await batch_ledger(works.postgres, {}, batch["id"])
