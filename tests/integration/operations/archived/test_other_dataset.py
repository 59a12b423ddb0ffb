"""Another dataset, with columns of every type: archived and compared without a line about it."""

from __future__ import annotations

from pathlib import Path

from libs.datasets import load_datasets
from libs.operations.archive import verify_archive
from libs.operations.verify import verify_replay
from libs.testing.builders import a_batch_of, a_payment
from tests.integration.archiver.works import Works
from tests.integration.ingestor.room import open_room
from tests.integration.operations.archived.test_verify import Home
from tests.integration.transformer.room import Room as Transformer

DATASETS = Path(__file__).parents[3] / "data" / "datasets"


async def test_payments_are_archived_and_rebuilt_the_same(works: Works) -> None:
    payments = load_datasets(DATASETS)["payments"]
    works.dataset = payments
    works.ingestor = await open_room(works.postgres, payments)
    works.transformer = Transformer(works.postgres, payments, works.root)
    odd = a_payment(fee="0.3500", settled=False, paid_on="2026-02-28", amount="1e2")
    await works.land(*a_batch_of(100, a_payment), odd)
    await works.publish()
    await works.archive()

    done = await verify_replay(Home(works.root.parent), payments, works.postgres, works.objects)

    assert (done.problems, done.identical, done.rows) == ([], True, 101)
    assert (await verify_archive(works.postgres, works.objects)).problems == []
    assert any(key.startswith("analytics/payments/") for key in await works.keys())
