"""What a command says it did is so: the transformer, which does the rest, runs only when a test lets it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass

import pytest

from libs.operations.actions import acting
from libs.operations.warehouse import resume
from libs.testing.waiting import until
from tests.integration.archiver.works import Works, an_event, orders_placed


@dataclass(frozen=True)
class Operator:
    """Somebody at a shell."""

    environment: dict[str, str]

    async def drp(self, *arguments: str) -> tuple[int, str, str]:
        """The exit code, what stands on stdout, and on stderr."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.cli.app",
            *arguments,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def operator(works: Works, postgres_url: str) -> Operator:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("DRP_", "AWS_", "OTEL_"))}
    return Operator({**kept, "DRP_POSTGRES_URL": postgres_url, "DRP_HOME": str(works.root.parent)})


async def two_published(works: Works) -> None:
    for start in (0, 10):
        await works.land(*orders_placed(2, start=start))
        await works.publish()


async def test_readers_are_said_to_see_the_earlier_generation_once_they_do(
    works: Works, operator: Operator
) -> None:
    await two_published(works)
    going_back = asyncio.create_task(
        operator.drp("warehouse", "rollback", "--reason", "a test", "--yes", "--json")
    )

    async def moved() -> bool:
        return going_back.done() or await works.transformer.current() == 1

    await until(moved)
    assert not going_back.done()  # for what readers open is generation 2 still
    await works.transformer.main.tend()

    code, out, err = await going_back
    assert (code, json.loads(out)) == (0, {"dataset": "orders", "generation": 1, "pinned": True})
    assert err.endswith("They see it now.\n")


async def test_a_rollback_that_no_transformer_follows_says_so(works: Works, operator: Operator) -> None:
    await two_published(works)
    code, out, err = await operator.drp("warehouse", "rollback", "--reason", "a test", "--yes", "--json")
    assert (code, out, await works.transformer.current()) == (5, "", 1)
    assert "no transformer has moved the link" in err
    assert "see it now" not in err


async def test_what_is_accepted_is_said_to_be_on_its_way_or_to_wait_for_a_resume(
    works: Works, operator: Operator
) -> None:
    await works.land(*orders_placed(2))
    await works.publish()
    await works.land(*orders_placed(2, start=10))
    await works.transformer.main.tend()
    blocked = await works.transformer.judge("fail")
    accept = ("quality", "accept", str(blocked), "--reason", "known", "--yes")
    pin = "UPDATE ops.warehouse_pointer SET pinned_at = now(), pinned_reason = 'wrong prices'"

    await works.postgres.execute(pin)
    code, _, err = await operator.drp(*accept, "--dry-run")
    assert (
        code,
        f"Generation {blocked} would be accepted, and published after drp warehouse resume" in err,
    ) == (
        0,
        True,
    )
    assert "wrong prices" in err
    async with acting(works.postgres) as connection:
        await resume(connection, "orders", actor="ann")

    assert (await operator.drp(*accept, "--dry-run"))[2] == f"Generation {blocked} would be accepted.\n"
    code, _, err = await operator.drp(*accept)
    assert (code, err) == (
        0,
        f"Generation {blocked} is accepted, and about to be published. Wait for it: drp batches wait --all\n",
    )
    assert await works.transformer.current() == 1


async def test_of_how_many_refused_events_a_key_was_searched_is_said(
    works: Works, operator: Operator
) -> None:
    await works.land(an_event("o-1", event_id="e-1", amount="ten"))
    _, _, err = await operator.drp("events", "find", "o-1")
    assert "newest" not in err
    await works.postgres.execute(
        """
        INSERT INTO raw.quarantine
            (dataset, stream, stream_entry_id, stream_position, batch_id, disposition, reason, detail, original)
        SELECT dataset, stream, '1-' || n, 0, batch_id, disposition, reason, detail, 'x'
        FROM raw.quarantine, generate_series(1, 20000) AS n
        """
    )
    code, _, err = await operator.drp("events", "find", "o-1")
    assert code == 1
    assert "the newest 20,000 were searched for 'o-1' as a key, older ones were not" in err
    assert (await operator.drp("events", "find", "e-1"))[0] == 0
