"""The verdict, its results, the inbox and the announcement stand or fall together."""

from __future__ import annotations

import pytest

from libs.contracts.events import QualityFailed
from libs.errors import DrpError
from services.validator.store import CONSUMER
from tests.integration.validator.bench import Bench, orders
from tests.integration.validator.test_verdicts import an_entry

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$
"""


async def written(bench: Bench) -> dict[str, int]:
    """How many rows each part of a verdict has left."""
    parts = {
        "verdicts": "ops.generations WHERE verdict IS NOT NULL",
        "results": "ops.quality_results",
        "failures": "ops.quality_failures",
        "inbox": f"ops.inbox WHERE consumer = '{CONSUMER}'",
        "outbox": "ops.outbox",
    }
    return {
        name: await bench.postgres.fetchval(f"SELECT count(*) FROM {source}")
        for name, source in parts.items()
    }


@pytest.mark.parametrize(
    "trigger",
    [
        pytest.param("CREATE TRIGGER refuse BEFORE INSERT ON ops.outbox", id="its last statement fails"),
        pytest.param(
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON ops.outbox DEFERRABLE INITIALLY DEFERRED",
            id="its commit fails",
        ),
    ],
)
async def test_a_verdict_that_cannot_be_announced_leaves_nothing_and_is_given_again(
    bench: Bench, trigger: str
) -> None:
    number = await bench.build(await bench.land(orders(20, bad=10)))
    entry = an_entry(number)
    nothing = {"verdicts": 0, "results": 0, "failures": 0, "inbox": 0, "outbox": 0}
    await bench.postgres.execute(REFUSE)
    await bench.postgres.execute(f"{trigger} FOR EACH ROW EXECUTE FUNCTION refuse()")

    with pytest.raises(DrpError):
        await bench.validator.hear([entry])
    assert await written(bench) == nothing
    assert await bench.generation(number) == ("built", None)

    await bench.postgres.execute("DROP TRIGGER refuse ON ops.outbox")
    await bench.validator.hear([entry])
    await bench.validator.hear([entry])
    assert await bench.generation(number) == ("blocked", "fail")
    after = await written(bench)
    assert (after["verdicts"], after["inbox"], after["outbox"], after["failures"]) == (1, 1, 1, 10)
    (event,) = await bench.announced()
    assert isinstance(event, QualityFailed)
    assert event.generation == number
